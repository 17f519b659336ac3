"""YAML text -> checked values: every value has its place in the file, and a list is a grid."""
