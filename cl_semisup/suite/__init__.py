"""What a suite asks for: its axes, its runs and their settings."""
