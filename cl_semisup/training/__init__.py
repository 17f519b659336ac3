"""Training never sees a suite: one run's parts go in, a trained model and its history come out."""
