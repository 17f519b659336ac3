"""Results that others send in: packed into one archive, and checked without trust. docs/submissions.md"""
