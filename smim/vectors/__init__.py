"""Low-dimensional data: batches and prepared corpora of vectors."""
