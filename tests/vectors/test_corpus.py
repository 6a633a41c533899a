"""Prepared corpora of vectors: read from disk without a copy, and refused where numbers are missing."""

import numpy as np
import pyarrow as pa
import pytest

from smim.errors import UserError
from smim.preparation import vectors
from smim.preparation.vectors import LabelledVectors, write_corpus
from smim.vectors.corpus import VectorCorpus


def write(directory) -> VectorCorpus:
    rows = LabelledVectors(np.arange(6).reshape(3, 2), ["a", "b", "a"])
    write_corpus(directory, {"train": rows}, name="own", label="label", source={})
    return VectorCorpus.open(directory)


def test_vectors_are_those_of_the_memory_mapped_file(tmp_path):
    split = write(tmp_path / "corpus").split("train")
    assert split.vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert split.vectors.ctypes.data == split.table.column("vector").chunk(0).values.buffers()[1].address


def test_a_vector_that_lacks_a_number_is_refused(tmp_path, monkeypatch):
    column = vectors._column

    def with_null(values):
        found = column(values)
        if not isinstance(found, pa.FixedSizeListArray):
            return found
        return pa.FixedSizeListArray.from_arrays(pa.array([0, 1, None, 3, 4, 5], pa.float32()), 2)

    monkeypatch.setattr(vectors, "_column", with_null)
    with pytest.raises(UserError, match="split 'train' has rows that lack numbers of 'vector'; prepare the"):
        write(tmp_path / "corpus").split("train")
