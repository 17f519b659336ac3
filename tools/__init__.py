"""Commands that keep this repository: its environment, and what is made from its code and records."""
