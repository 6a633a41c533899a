"""The published corpora, one module each: their files, and how sentences are assigned to splits."""
