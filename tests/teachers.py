"""A small teacher of sentence-transformers: a static table of words, with random numbers."""

from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = (
    "the company a bank old minister her brother sold bought wrote about never liked lost shares small house new law"
)
DIMENSION = 6


def write_teacher(directory: Path, *, seed: int = 0, scale: float = 1.0) -> Path:
    """It knows the words of the tiny corpus; others are 0. `scale` of its numbers, which are NaN beyond 1e38."""
    words = WORDS.split()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, **{word: i + 1 for i, word in enumerate(words)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    table = np.random.default_rng(seed).normal(size=(len(words) + 1, DIMENSION)).astype(np.float32)
    table[0] = 0
    with np.errstate(all="ignore"):
        static = StaticEmbedding(tokenizer, embedding_weights=table * np.float32(scale))
    SentenceTransformer(modules=[static], device="cpu").save_pretrained(str(directory), create_model_card=False)
    return directory
