"""Indexes of codes that no model made, for tests of more rows than there are sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smim.generation import SentenceModel
from smim.search import Index, open_index
from smim.search import factory as factories
from smim.search.index import comparable
from smim.search.manifest import Manifest
from smim.search.segment import write_segment


def index_of_codes(
    directory: Path,
    model: SentenceModel,
    codes_ND: np.ndarray,
    *,
    labels: Mapping[str, Any],
    factory: str = "Flat",
    metric: str = "l2",
) -> Index:
    """One segment of codes as wide as the model's, ids from 0 on; the texts are numbers."""
    codes_ND = comparable(codes_ND.copy(), metric, codes_ND.shape[1])
    rows = pa.table({"text": [str(i) for i in range(len(codes_ND))], **labels})
    vectors = factories.make_vectors(factory, metric, codes_ND.shape[1])
    factories.train_on_sample(vectors, factory, len(codes_ND), lambda sample: iter([codes_ND[sample]]))
    folder = directory / "00000001"
    folder.mkdir(parents=True)
    chunks = [(np.arange(len(codes_ND)), codes_ND, rows)]
    segment = write_segment(
        folder,
        name=folder.name,
        factory=factory,
        vectors=vectors,
        vector_of=np.arange(len(codes_ND)),
        chunks=iter(chunks),
        store="fp32",
    )
    Manifest(
        version=1,
        model="",
        model_hash=model.hash,
        tokenizer_hash=model.tokenizer.hash,
        metric=metric,
        factory=factory,
        store="fp32",
        dimension=codes_ND.shape[1],
        next_id=len(codes_ND),
        columns=list(labels),
        search=factories.default_search(factory),
        segments=[segment],
    ).write(directory)
    return open_index(directory, model=model)
