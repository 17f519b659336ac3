"""The training of one run: a setup goes in, a trained model and its history come out."""
