"""YAML text -> checked values: every value keeps its place in the file, and a list is a grid."""
