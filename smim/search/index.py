"""An index of sentence codes on disk, and search for the sentences nearest to a query.

Shapes: N queries, K results, D latent dimensions.
"""

from collections.abc import Coroutine, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import faiss
import numpy as np
import pyarrow as pa
from torch import Tensor

from smim.arrays import as_matrix
from smim.errors import UserError
from smim.generation import SentenceModel, check_sentences, load
from smim.model.distributions import DiagonalGaussian
from smim.search.errors import NoSuchSentence, Unreadable
from smim.search.filters import Where
from smim.search.folding import Equals
from smim.search.gpu import check_gpu
from smim.search.ids import as_ids, listed
from smim.search.manifest import Manifest
from smim.search.query import Hit, Options, Query, SearchResult, Sentence, Texts
from smim.search.rerank import Reranker, scores_of
from smim.search.results import Hits, Results
from smim.search.searching import Answer, search
from smim.search.snapshot import Snapshot, open_newest, stamp_of

T = TypeVar("T")
_HITS_AT_ONCE = 16_384
# Sentences, `Query` objects, or codes.
Queries: TypeAlias = Sequence[str] | Sequence[Query] | np.ndarray | Tensor | pa.Array | pa.ChunkedArray


class Index:
    """An index opened with `open_index`. Each search uses the newest version on disk."""

    def __init__(
        self,
        directory: Path,
        model: SentenceModel,
        snapshot: Snapshot,
        stamp: tuple[int, int],
        reranker: Reranker | None = None,
        *,
        gpu: bool = False,
    ) -> None:
        self.directory, self.model, self.reranker = directory, model, reranker
        self._snapshot, self._stamp, self._gpu = snapshot, stamp, gpu

    @property
    def snapshot(self) -> Snapshot:
        """The newest version. If the index changed, it is opened again; unchanged segments stay open."""
        stamp = stamp_of(self.directory)
        if stamp != self._stamp:
            snapshot, stamp = open_newest(self.directory, known=self._snapshot.segments, gpu=self._gpu)
            check_model(self.directory, snapshot.manifest, self.model)
            self._snapshot, self._stamp = snapshot, stamp
        return self._snapshot

    @property
    def manifest(self) -> Manifest:
        return self.snapshot.manifest

    def __len__(self) -> int:
        """The number of texts. A text that was split into sentences counts once."""
        return self.manifest.count

    def __repr__(self) -> str:
        about = self.manifest
        labels = f", labels {', '.join(about.columns)}" if about.columns else ""
        kinds = ", ".join(dict.fromkeys(segment.factory for segment in about.segments)) or about.factory
        return (
            f"<Index {self.directory}: {about.size}{labels}; codes of {about.dimension} dimensions, "
            f"{about.metric}, {kinds}; of {about.model}>"
        )

    @overload
    def search(self, queries: str, k: int = 5, **options: Any) -> Hits: ...

    @overload
    def search(self, queries: Queries, k: int = 5, **options: Any) -> Results: ...

    def search(self, queries: str | Queries, k: int = 5, **options: Any) -> Hits | Results:
        """Find the `k` nearest sentences of each query, nearest first; equal distances are in order of id.

            index.search("the company said profit rose", k=3, where={"stars": {"$gte": 4}})

        Queries are sentences (one, a list, or a column of pandas, Arrow or `datasets`), codes [N, D], or `Query`
        objects. One string returns a list of hits; other queries return one such list each. Both results have
        `to_pandas()` and `to_arrow()`. Fewer than `k` hits are found if the index holds fewer. `options`: the fields
        of `Options`, and search settings that override the index's own, such as `nprobe=64`.

        Codes are those of the model. An index of meaning parts also accepts meaning parts alone. Raises `UserError`
        for `k` below 1, for sentences that the model cannot encode, and for codes of a wrong dimension or not finite.
        """
        found = [result.hits for result in self.results(queries, _options(k, options))]
        return Hits(found[0]) if isinstance(queries, str) else Results(found)

    def stream(self, queries: Iterable[str | Query], k: int = 5, **options: Any) -> Iterator[list[Hit]]:
        """Search any number of sentences or `Query` objects in batches; yields the hits of each, as `search` does.

        Only one batch of queries and hits is in memory.
        """
        chosen, waiting = _options(k, options), iter(queries)
        while some := list(islice(waiting, max(1, _HITS_AT_ONCE // chosen.k))):
            asked = [Query(text=each) if isinstance(each, str) else each for each in some]
            yield from (result.hits for result in self.results(asked, chosen))

    def more_like(self, ids: Sequence[int], k: int = 5, **options: Any) -> Results:
        """Find the `k` sentences nearest to each given one, which is left out. `options` are those of `search`."""
        return self.search([Query(id=id) for id in as_ids(ids).tolist()], k, **options)

    def results(self, queries: Any, options: Options) -> list[SearchResult]:
        """Search as `search` does, and return results that also hold each query's decoded sentence."""
        if isinstance(queries, str):
            queries = [queries]
        if isinstance(queries, pa.Array | pa.ChunkedArray):
            queries = queries.to_pylist()
        if isinstance(queries, np.ndarray | Tensor) and queries.dtype != object:
            codes = _Alone(self).checked(queries, short=self.manifest.dimension)
            asked = [Query(code=code) for code in codes]
        elif isinstance(queries, list) and all(isinstance(query, Query) for query in queries):
            asked = queries
        else:
            check_sentences(queries)
            asked = [Query(text=text) for text in queries]
        return _done(search(_Alone(self), asked, options)) if asked else []

    def nearest(self, codes_ND: np.ndarray, options: Options, texts: Texts = None) -> list[list[Hit]]:
        """The hits of codes [N, D] by the options' `k`, `where`, `settings` and `mode`; raises as `search` does.

        A search by words compares the words of `texts`.
        """
        snapshot = self.snapshot
        codes_ND = query_codes(codes_ND, snapshot.manifest, self.model)
        return snapshot.hits(codes_ND, options.wide(snapshot.manifest.search), texts)

    def codes(self, ids: Sequence[int]) -> np.ndarray:
        """The codes of sentences by id, fp32 [N, D], of length one if the metric is cosine.

        For an id with several sentences, it is the mean of their codes.
        """
        snapshot = self.snapshot
        return snapshot.codes_of_texts(*self._places(snapshot, ids))

    def get(self, ids: Sequence[int]) -> list[Sentence]:
        """The sentences of the given ids, with their labels. Raises `UserError` that names missing ids.

        The sentences of an id are joined with spaces.
        """
        snapshot = self.snapshot
        places = zip(*map(np.ndarray.tolist, self._places(snapshot, ids)), strict=True)
        hits = (snapshot.text(number, position) for number, position in places)
        return [Sentence(hit.id, hit.text, hit.labels) for hit in hits]

    def count(self, where: Where | None = None) -> int:
        """The number of texts, or of those that pass a filter."""
        return self.snapshot.count(where)

    def _places(self, snapshot: Snapshot, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        wanted = as_ids(ids)
        numbers, positions = snapshot.places_of(wanted)
        if (numbers < 0).any():
            raise NoSuchSentence(self.directory, f"holds no sentence with id {listed(wanted[numbers < 0])}")
        return numbers, positions


class _Alone:
    """An index for a single search whose caller waits; implements `smim.search.searching.Asked`."""

    def __init__(self, index: Index) -> None:
        self.index, self.model = index, index.model

    async def posterior(
        self, texts: Sequence[str], *, allow_unknown: bool = False, stored: bool = False
    ) -> DiagonalGaussian:
        return self.model.posterior(texts, allow_unknown=allow_unknown or stored)

    async def decode(self, codes: np.ndarray, *, literal: float = 1.0) -> list[str]:
        return self.model.decode(codes, literal=literal)

    async def nearest(self, codes: np.ndarray, options: Options, texts: Texts = None) -> Answer:
        return Answer(self.index.nearest(codes, options, texts))

    async def equals(self, texts: Sequence[str], options: Options) -> list[Equals]:
        return self.index.snapshot.equals(texts, options)

    async def codes(self, ids: Sequence[int]) -> np.ndarray:
        return self.index.codes(ids)

    async def texts(self, ids: Sequence[int]) -> list[str]:
        return [row.text for row in self.index.get(ids)]

    async def manifest(self) -> Manifest:
        return self.index.manifest

    async def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float] | None:
        return None if self.index.reranker is None else scores_of(self.index.reranker, pairs)

    def checked(self, codes: Any, *, short: int | None = None) -> np.ndarray:
        return as_matrix(codes, self.model.latent_dim, "the query codes", of="this index's are", short=short)


def _options(k: int, given: dict[str, Any]) -> Options:
    """Options of a search. Names that `Options` does not have are search settings."""
    settings = {name: value for name, value in given.items() if name not in Options.__dataclass_fields__}
    return Options(k, **{"settings": settings, **{name: given[name] for name in given.keys() - settings}})


def _done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError


def open_index(
    directory: Path | str, *, model: SentenceModel | None = None, reranker: Reranker | None = None, gpu: bool = False
) -> Index:
    """Open an index, with the model that its manifest names unless `model` is given.

    `reranker` scores pairs of a query and a sentence, such as `smim.search.rerank.cross_encoder`. Searches with
    `rerank=N` use it; without one they rank by log q(z|query). `gpu`: search on a GPU with `faiss-gpu`, except graphs
    and filtered searches.

    An index of any size opens at once, because only the data that identifies its files is read.

    Raises `UserError` if the index is missing, damaged or of another format, if its model is no longer in its place,
    and if `model` is not the model that the index was built with.
    """
    directory = Path(directory)
    snapshot, stamp = open_newest(directory, gpu=check_gpu(gpu))
    return Index(directory, model_of(directory, snapshot.manifest, model), snapshot, stamp, reranker, gpu=gpu)


def check_model(directory: Path, manifest: Manifest, model: SentenceModel) -> None:
    """Raise `Unreadable` if `model` is not the model that the index was built with."""
    if model.hash != manifest.model_hash:
        raise Unreadable(
            f"{directory} was built with another model, which was at {manifest.model}; codes of two models "
            "cannot be compared. Give that model, or encode the index's sentences with this one: "
            f"`smim index rebuild {directory} --model MODEL`"
        )
    dimension = model.dimension_of(manifest.part)
    if dimension != manifest.dimension:
        raise Unreadable(
            f"{directory} stores codes of {manifest.dimension} dimensions, but those of its model have {dimension}; "
            "the index was edited. Build it again"
        )


def query_codes(queries: np.ndarray | Tensor, manifest: Manifest, model: SentenceModel) -> np.ndarray:
    """Codes [N, D] prepared for this index; raises `UserError` for a wrong shape and for values that are not finite."""
    of, short = "this index's are", manifest.dimension
    codes = as_matrix(queries, model.latent_dim, "the query codes", of=of, short=short)
    return comparable(codes, manifest.metric, manifest.dimension)


def comparable(codes_ND: np.ndarray, metric: str, dimension: int) -> np.ndarray:
    """The first `dimension` numbers of codes, scaled to length one if the metric is cosine.

    Changes the array in place if that is all of its numbers.
    """
    codes = np.ascontiguousarray(codes_ND[:, :dimension])
    if metric == "cosine":
        faiss.normalize_L2(codes)
    return codes


def model_of(directory: Path, manifest: Manifest, model: SentenceModel | None = None) -> SentenceModel:
    """The index's model, loaded unless it is given; raises `Unreadable` as `check_model` does."""
    try:
        model = model or load(manifest.model)
    except UserError as error:
        raise UserError(
            f"the model that {directory} was built with cannot be loaded: {error}; give its present path "
            "with `--model DIR` (in Python `model=smim.load(DIR)`)"
        ) from None
    check_model(directory, manifest, model)
    return model
