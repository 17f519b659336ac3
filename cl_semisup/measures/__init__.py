"""Measures of embeddings, and the converged linear probe."""
