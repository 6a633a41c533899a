"""The corpora, a module each: what files they are made of and how their sentences are drawn."""
