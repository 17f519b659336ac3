"""What is kept: records, what makes them comparable, and leaderboards. Never torch."""
