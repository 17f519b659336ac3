"""Stored results: records, what makes them comparable, and leaderboards. Never torch."""
