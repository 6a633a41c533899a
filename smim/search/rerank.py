"""Scores of pairs of a query and a sentence, which rerank the first hits of a search.

index = open_index("indexes/mine", reranker=cross_encoder("cross-encoder/ms-marco-MiniLM-L6-v2"))
index.search(["how do I cook rice"], k=10, rerank=50)
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from smim.errors import UserError

# Gives a score for each pair; higher is better.
Reranker = Callable[[Sequence[tuple[str, str]]], Sequence[float]]


def cross_encoder(name: Path | str) -> Reranker:
    """Load a cross-encoder of sentence-transformers, by its directory or its name on the Hugging Face hub.

    Raises `UserError` if sentence-transformers is not installed, and for a model that gives no single score.
    """
    with redirect_stdout(sys.stderr):  # keep the libraries' messages out of the results on stdout
        try:
            from sentence_transformers import CrossEncoder
        except ModuleNotFoundError:
            raise UserError(
                "a cross-encoder needs sentence-transformers; install it with `pip install 'smim[hub]'`"
            ) from None
        try:
            model = CrossEncoder(str(name))
            labels = int(model.num_labels)
        except Exception as error:  # the kind depends on what is missing
            message = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{name} cannot be loaded as a cross-encoder: {message}") from None
    if labels != 1:
        raise UserError(f"{name} gives {labels} numbers for a pair; use a cross-encoder that gives one score")
    return lambda pairs: model.predict(list(pairs), show_progress_bar=False).tolist()


def scores_of(reranker: Reranker, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """A finite score for each pair; raises `UserError` if a reranker gives anything else."""
    scores = np.asarray(reranker(pairs), np.float64) if pairs else np.empty(0)
    if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
        raise UserError(f"the reranker gave no finite score for each of {len(pairs)} pairs")
    return scores.tolist()
