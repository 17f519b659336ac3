"""Weights in files: which files they are, their tensors, and how they get into a network. Nothing is downloaded."""
