"""Batches and prepared corpora of vectors, such as low-dimensional data and images."""
