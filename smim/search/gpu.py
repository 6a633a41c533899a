"""FAISS on a GPU for training, adding and searching. It needs `faiss-gpu` in place of `faiss-cpu`.

Files on disk and the results of exact searches are the same: FAISS proposes candidates, exact distances order them.
"""

import threading
from typing import Any

import faiss
import numpy as np

from smim.errors import UserError
from smim.search import factory as factories

# The most results and inverted lists of one FAISS search on a GPU.
_MOST = 2048


def check_gpu(wanted: bool) -> bool:
    """Return `wanted`; raises `UserError` if it is true and FAISS sees no GPU."""
    if wanted and not faiss.get_num_gpus():
        built_for = "sees no GPU" if hasattr(faiss, "StandardGpuResources") else "was built for CPUs"
        raise UserError(f"an index on a GPU needs faiss-gpu and a GPU; the installed FAISS {built_for}")
    return wanted


def on_gpu(vectors: Any) -> Any:
    """Copy an index to the GPU; raises `UserError` if FAISS does not support it there, or has no room."""
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, vectors)
    except RuntimeError as error:
        reason = factories.reason_of(error)
        raise UserError(
            f"FAISS cannot put this index on a GPU ({reason}); leave out `gpu`, or change `factory`"
        ) from None


class VectorsOnGpu:
    """A copy of a segment's vectors on the GPU, for the searches that it supports."""

    def __init__(self, vectors: Any) -> None:
        self._vectors, self._copy = vectors, on_gpu(vectors)
        self._lock = threading.Lock()  # FAISS's memory on a GPU allows one search at a time

    def takes(self, wanted: int, settings: dict[str, int]) -> bool:
        """Whether the GPU supports a search for this many results with these settings."""
        return max(wanted, settings.get("nprobe", 1)) <= _MOST

    def search(self, queries_ND: np.ndarray, wanted: int, settings: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Search as FAISS does: scores and vector numbers [N, wanted]."""
        parameters = factories.search_parameters(self._vectors, settings, None)
        with self._lock:
            found: tuple[np.ndarray, np.ndarray] = self._copy.search(queries_ND, wanted, params=parameters)
        return found
