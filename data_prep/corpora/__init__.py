"""The published corpora. Each module has the recipe of one corpus: its files, and the assignment to splits."""
