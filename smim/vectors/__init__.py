"""Batches and prepared corpora of vectors, for low-dimensional data."""
