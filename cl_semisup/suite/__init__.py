"""What is asked: a suite, its runs and their settings."""
