"""Scores of features that are there already: files, label draws, probes of many draws at once, their table."""
