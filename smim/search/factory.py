"""FAISS indexes: their choice from `auto` or a factory string, their training, and their search parameters.

Shapes: N rows, D latent dimensions.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np

from smim.errors import UserError, nearest, refuse_if
from smim.progress import track

METRICS = {
    "l2": faiss.METRIC_L2,
    "inner_product": faiss.METRIC_INNER_PRODUCT,
    "cosine": faiss.METRIC_INNER_PRODUCT,  # of vectors of length one
}
AUTO = "auto"
EXACT = "Flat"
_EXACT_UP_TO = 100_000
_HNSW_NEIGHBOURS = 32
_EF_CONSTRUCTION = 200
# `link_lost`: the ef_search of its searches (lower than in usual searches), its rounds, and its batch size.
_EF_OWN, _ROUNDS, _SEARCHED_AT_ONCE = 16, 3, 4096
_PQ_CODE_BITS = 8
_LEAST_PROBES = 32
# Numbers of lists, neighbours, dimensions or bits that FAISS accepts, and that then crash the process.
_TOO_LOW = re.compile(r"(?<!\d)0+(?!\d)|HNSW1(?!\d)")
_TOO_HIGH = re.compile(r"[1-9]\d{7}")  # FAISS would allocate gigabytes at once
_TRAINING_ROWS = 65_536
_TRAINING_ROWS_PER_CLUSTER = 64  # FAISS warns below 39


def resolve(factory: str, count: int, dimension: int, memory: int | None = None, *, gpu: bool = False) -> str:
    """The factory, or the choice of `auto` for an index of at most `memory` bytes (half of the machine's by default).

    `auto` is exact up to 100,000 rows. Then it is a graph over fp16 codes (HNSW) if that fits, else inverted lists of
    product codes (IVF-PQ), with about 4 sqrt(count) lists and one byte per 8 dimensions. `gpu`: no graph, because FAISS
    has none on a GPU. Raises `UserError` for less than one byte of memory.
    """
    if memory is not None and memory < 1:
        raise UserError(
            f"memory is {memory:,} bytes, but an index needs at least 1; leave it out for half of the machine's memory"
        )
    if factory != AUTO:
        return factory
    if count <= _EXACT_UP_TO:
        return EXACT
    graph_bytes = count * (2 * dimension + 4 * 2 * _HNSW_NEIGHBOURS + 24)
    if not gpu and graph_bytes <= (half_of_memory() if memory is None else memory):
        return f"HNSW{_HNSW_NEIGHBOURS},SQfp16"
    num_lists = 2 ** round(math.log2(4 * math.sqrt(count)))
    num_codes = next(size for size in range(max(1, dimension // 8), 0, -1) if dimension % size == 0)
    return f"IVF{num_lists},PQ{num_codes}x{_PQ_CODE_BITS}"


def half_of_memory() -> int:
    """Half of this machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def make_vectors(factory: str, metric: str, dimension: int) -> Any:
    """An empty FAISS index; raises `UserError` for an unknown factory or metric, or one that cannot filter."""
    refuse_if({
        f"unknown metric {metric!r}; {nearest(metric, list(METRICS))}": metric not in METRICS,
        f"the index factory {factory!r} has too low a number; write for example Flat, IVF1024,Flat or HNSW32, or auto":
            _TOO_LOW.search(factory),
        f"the index factory {factory[:60]!r} has too high a number; write for example IVF65536,PQ64, or auto":
            _TOO_HIGH.search(factory),
    })  # fmt: skip
    try:
        vectors = faiss.index_factory(dimension, factory, METRICS[metric])
    except RuntimeError as error:
        raise UserError(
            f"FAISS cannot make an index {factory!r} for codes of {dimension} dimensions ({reason_of(error)}); "
            "write for example Flat, IVF1024,Flat or HNSW32, or auto"
        ) from None
    if not takes_filters(vectors):
        raise UserError(
            f"FAISS cannot apply filters in an index {factory!r}; write for example Flat, SQ8, "
            "IVF1024,Flat, IVF1024,PQ64 or HNSW32, with PCA or OPQ before it if needed, or auto"
        )
    if (found := graph(vectors)) is not None:
        found.hnsw.efConstruction = _EF_CONSTRUCTION
    return vectors


def takes_filters(vectors: Any) -> bool:
    """Whether FAISS can restrict a search of this index to some rows."""
    return isinstance(_behind(vectors), faiss.IndexFlat | faiss.IndexIVF | faiss.IndexHNSW | faiss.IndexScalarQuantizer)


def _behind(vectors: Any) -> Any:
    """The index behind any transforms."""
    while isinstance(vectors, faiss.IndexPreTransform):
        vectors = faiss.downcast_index(vectors.index)
    return vectors


def training_size(vectors: Any, count: int) -> int:
    """The number of `count` rows to train an index on; 0 if it needs no training."""
    if vectors.is_trained:
        return 0
    inverted = inverted_lists(vectors)
    return min(count, max(_TRAINING_ROWS, (inverted.nlist if inverted else 0) * _TRAINING_ROWS_PER_CLUSTER))


def train_on_sample(
    vectors: Any, factory: str, count: int, codes_of: Callable[[np.ndarray], Iterator[np.ndarray]], *, gpu: bool = False
) -> None:
    """Train an index, if needed, on a random sample of `count` rows; `codes_of` yields the codes of rows in parts.

    `gpu`: compute the centroids of inverted lists on all GPUs.

    Raises `UserError` if there are too few rows for this factory.
    """
    size = training_size(vectors, count)
    if size:
        sample = np.sort(np.random.default_rng(0).choice(count, size, replace=False, shuffle=False))
        codes_ND = np.empty((size, vectors.d), np.float32)
        start = 0
        for part in codes_of(sample):
            codes_ND[start : start + len(part)] = part
            start += len(part)
        inverted = inverted_lists(vectors) if gpu else None
        if inverted is not None:
            # The k-means for the lists' centroids is nearly all of the work.
            clustering = faiss.index_cpu_to_all_gpus(faiss.IndexFlat(inverted.d, inverted.metric_type))
            inverted.clustering_index = clustering  # FAISS holds no reference; the variable keeps it alive
        try:
            vectors.train(codes_ND)
        except RuntimeError as error:
            raise UserError(
                f"an index {factory!r} cannot be trained on {len(codes_ND):,} sentences ({reason_of(error)}); "
                "choose a smaller one, or Flat"
            ) from None
        finally:
            if inverted is not None:
                inverted.clustering_index = None


def is_exact(vectors: Any) -> bool:
    return isinstance(vectors, faiss.IndexFlat)


def measures_exactly(vectors: Any) -> bool:
    """Whether FAISS computes distances from the codes themselves, not from rounded, quantized or transformed ones."""
    if isinstance(vectors, faiss.IndexHNSW):
        return is_exact(faiss.downcast_index(vectors.storage))
    return is_exact(vectors) or isinstance(vectors, faiss.IndexIVFFlat)


def inverted_lists(vectors: Any) -> Any | None:
    """The part of an index with inverted lists, or None."""
    inner = _behind(vectors)
    return inner if isinstance(inner, faiss.IndexIVF) else None


def graph(vectors: Any) -> Any | None:
    """The part of an index that is a graph, or None."""
    inner = _behind(vectors)
    return inner if isinstance(inner, faiss.IndexHNSW) else None


def link_lost(vectors: Any, codes_ND: np.ndarray) -> None:
    """Change a graph so that a search by a vector's own code finds it; other kinds of index are not changed.

    Some vectors are among no other vector's nearest, and FAISS drops all links to them. Each of these gets a link from
    the nearest vector with a free link.
    """
    found = graph(vectors)
    if found is None:
        return
    links = faiss.rev_swig_ptr(found.hnsw.neighbors.data(), found.hnsw.neighbors.size())
    starts, room = faiss.vector_to_array(found.hnsw.offsets), found.hnsw.nb_neighbors(0)
    parameters = search_parameters(vectors, {"ef_search": _EF_OWN}, None)
    lost = np.arange(len(codes_ND))
    for _ in range(_ROUNDS):
        still = [lost[:0]]
        for start in track(range(0, len(lost), _SEARCHED_AT_ONCE), "checking links"):
            part = lost[start : start + _SEARCHED_AT_ONCE]
            _, nearest_NK = vectors.search(np.asarray(codes_ND[part], np.float32), _EF_OWN, params=parameters)
            missing = ~(nearest_NK == part[:, None]).any(1)
            for vector, others in zip(part[missing], nearest_NK[missing], strict=True):
                of_each = (links[starts[other] : starts[other] + room] for other in others[others >= 0])
                free = next((of for of in of_each if of[-1] < 0), None)
                if free is not None:
                    free[np.argmax(free < 0)] = vector
            still.append(part[missing])
        lost = np.concatenate(still)


def table_bytes(vectors: Any) -> int:
    """The memory of the table of `precompute_table`, in bytes; 0 if FAISS does not use one."""
    inverted = inverted_lists(vectors)
    if not isinstance(inverted, faiss.IndexIVFPQ) or inverted.metric_type != faiss.METRIC_L2:
        return 0
    return 4 * inverted.nlist * inverted.pq.M * inverted.pq.ksub


def precompute_table(vectors: Any) -> None:
    """Compute the lookup table of distances for lists and product codes; it makes searches a sixth faster."""
    if table_bytes(vectors):
        inverted_lists(vectors).precompute_table()  # type: ignore[union-attr]


def bytes_per_row(vectors: Any) -> int:
    """Approximate memory per row while an index is built; 0 for an exact index, which is written directly."""
    if is_exact(vectors):
        return 0
    if isinstance(vectors, faiss.IndexPreTransform):
        return max(1, bytes_per_row(faiss.downcast_index(vectors.index)))
    if isinstance(vectors, faiss.IndexIVF):
        return vectors.code_size + 8  # the row number
    if isinstance(vectors, faiss.IndexHNSW):
        return faiss.downcast_index(vectors.storage).code_size + 5 * vectors.hnsw.nb_neighbors(0)
    return vectors.code_size if isinstance(vectors, faiss.IndexFlatCodes) else 4 * vectors.d


def reserve(vectors: Any, count: int) -> None:
    """Allocate memory for `count` rows at once: a growing array is held twice whenever it moves."""
    inner = _behind(vectors)
    codes = faiss.downcast_index(inner.storage) if isinstance(inner, faiss.IndexHNSW) else inner
    if isinstance(codes, faiss.IndexFlatCodes):
        codes.codes.resize(count * codes.code_size)
        codes.codes.resize(0)


def default_search(factory: str) -> dict[str, int]:
    """Search settings that usually reach a recall@10 of 0.95; `smim index report` measures and suggests.

    `nprobe`: the inverted lists to read. `ef_search`: the nodes that a graph's search keeps. `refine`: the candidates,
    in multiples of k, to rerank by their stored codes; 0 uses FAISS's distances. If it is not given, it is 1 where
    these are not exact, because hits of several segments are merged by distance.
    """
    settings: dict[str, int] = {}
    if "IVF" in factory:
        lists = re.search(r"IVF(\d+)", factory)
        settings["nprobe"] = max(_LEAST_PROBES, int(lists[1]) // 16 if lists else 0)
    if "HNSW" in factory:
        settings["ef_search"] = 64
    if "PQ" in factory or "SQ" in factory:
        settings["refine"] = 16 if "PQ" in factory else 2
    return settings


def search_parameters(vectors: Any, settings: dict[str, int], selector: Any | None) -> Any:
    """FAISS's parameters of a search among the rows that `selector` allows."""
    chosen = {} if selector is None else {"sel": selector}
    if isinstance(vectors, faiss.IndexPreTransform):
        inner = search_parameters(faiss.downcast_index(vectors.index), settings, selector)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(vectors, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=min(settings.get("nprobe", 1), vectors.nlist), **chosen)
    if isinstance(vectors, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=min(settings.get("ef_search", 16), max(1, vectors.ntotal)), **chosen)
    return faiss.SearchParameters(**chosen)


def reason_of(error: RuntimeError) -> str:
    """FAISS's message without its function and source line."""
    return re.split(r"\.(?:cpp|cuh?|h):\d+: ", str(error))[-1].rpartition(" failed: ")[2]
