"""FAISS's work on a GPU, training, adding and searching, for which `faiss-gpu` is installed in place of `faiss-cpu`.

What is on disk is the same, and so is what an exact search answers: FAISS proposes, and exact distances order.
"""

import threading
from typing import Any

import faiss
import numpy as np

from smim.errors import UserError
from smim.search import factory as factories

# Results and inverted lists that FAISS takes in one search on a GPU.
_MOST = 2048


def check_gpu(wanted: bool) -> bool:
    """`wanted` itself; raises `UserError` where it is, and FAISS sees no GPU."""
    if wanted and not faiss.get_num_gpus():
        built_for = "sees none" if hasattr(faiss, "StandardGpuResources") else "is built without them"
        raise UserError(f"an index on a GPU needs faiss-gpu and a GPU; the FAISS that is installed {built_for}")
    return wanted


def on_gpu(vectors: Any) -> Any:
    """A copy of an index on the GPU; raises `UserError` where FAISS has no such kind there, or no room."""
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, vectors)
    except RuntimeError as error:
        reason = factories.reason_of(error)
        raise UserError(f"FAISS cannot put this index on a GPU ({reason}); leave `gpu` out, or build another") from None


class VectorsOnGpu:
    """A segment's vectors on the GPU too, for the searches that it takes."""

    def __init__(self, vectors: Any) -> None:
        self._vectors, self._copy = vectors, on_gpu(vectors)
        self._lock = threading.Lock()  # FAISS's memory on a GPU is for one search at a time

    def takes(self, wanted: int, settings: dict[str, int]) -> bool:
        """Whether so many results can be found on the GPU, with such settings."""
        return max(wanted, settings.get("nprobe", 1)) <= _MOST

    def search(self, queries_ND: np.ndarray, wanted: int, settings: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """As FAISS's `search`: scores and numbers of vectors [N, wanted]."""
        parameters = factories.search_parameters(self._vectors, settings, None)
        with self._lock:
            found: tuple[np.ndarray, np.ndarray] = self._copy.search(queries_ND, wanted, params=parameters)
        return found
