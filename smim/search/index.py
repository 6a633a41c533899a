"""An index of a corpus's codes on disk, and the sentences nearest to a query in it.

    DIR/manifest.json  00000/vectors.faiss  00000/rows.arrow

A segment holds FAISS's vectors and, row by row, what they answer with: an Arrow IPC stream with the
columns `id` (the row's number in the corpus's split), `text` and the corpus's labels.

Shapes: N queries, D latent dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from smim import storage
from smim.errors import UserError, nearest
from smim.generation import SentenceModel, load
from smim.progress import track
from smim.text.corpus import Corpus, Split

MANIFEST = "manifest.json"
FORMAT = 1
_SEGMENT = "00000"
_VECTORS = "vectors.faiss"
_ROWS = "rows.arrow"

_METRICS = {
    "l2": faiss.METRIC_L2,
    "inner_product": faiss.METRIC_INNER_PRODUCT,
    "cosine": faiss.METRIC_INNER_PRODUCT,  # of vectors of length one
}
_ROWS_PER_CHUNK = 2048
_SPARE_CANDIDATES = 64
_TRAINING_ROWS = 65_536
_TRAINING_ROWS_PER_CLUSTER = 64  # FAISS warns below 39


@dataclass(frozen=True)
class Manifest:
    """What an index is made of. `model` is a path, as it was when the index was built."""

    format: int
    model: str
    model_hash: str
    tokenizer_hash: str
    metric: str
    factory: str
    dimension: int
    count: int
    segments: list[dict[str, Any]]


@dataclass(frozen=True)
class Hit:
    """A sentence that was found. The smaller `distance`, the nearer, whatever the index's metric:

    `l2`: the Euclidean distance (not squared); `cosine`: 1 - cosine; `inner_product`: its negative.
    `id` is the sentence's row number in the split that was indexed.
    """

    id: int
    text: str
    distance: float
    labels: dict[str, Any]


@dataclass(frozen=True)
class Index:
    """An index that was opened with `open_index`: `vectors` is FAISS's, `rows` is memory-mapped."""

    directory: Path
    manifest: Manifest
    model: SentenceModel
    vectors: Any
    rows: pa.Table

    def __len__(self) -> int:
        return self.manifest.count

    def search(self, queries: Sequence[str] | np.ndarray, k: int = 5) -> list[list[Hit]]:
        """The `k` nearest sentences of each query, nearest first, ties in order of their ids.

            index.search(["the company said profit rose"], k=3)

        Queries are sentences, or codes [N, D]. An approximate index may find fewer than `k`. Raises
        `UserError` for a `k` below 1 or above the number of sentences, for sentences that the model
        cannot encode, and for codes of another dimension or that are not finite.
        """
        if k < 1:
            raise UserError(f"k is {k}, it must be at least 1")
        if k > len(self):
            raise UserError(f"k is {k}, but {self.directory} holds only {len(self):,} sentences")
        codes = self._codes(queries)
        # For many queries at once FAISS expands |q - v|^2, whose rounding hides which of close codes is the
        # nearest: more are taken, and put in order by distances that are computed anew.
        wanted = min(4 * k + _SPARE_CANDIDATES, len(self)) if self._is_exact_l2 else k
        scores, positions = self.vectors.search(codes, wanted)
        return [self._hits(*query)[:k] for query in zip(codes, scores, positions, strict=True)]

    def _codes(self, queries: Sequence[str] | np.ndarray) -> np.ndarray:
        if not isinstance(queries, np.ndarray):
            return _comparable(self.model.encode(queries, allow_unknown=False), self.manifest.metric)
        if queries.ndim != 2 or queries.shape[1] != self.manifest.dimension or queries.dtype.kind not in "fiu":
            raise UserError(
                f"the query codes are {queries.dtype} of shape {queries.shape}, "
                f"this index takes numbers of shape [N, {self.manifest.dimension}]"
            )
        codes = np.array(queries, dtype=np.float32, order="C")
        if not np.isfinite(codes).all():
            raise UserError("the query codes hold NaN or infinite numbers")
        return _comparable(codes, self.manifest.metric)

    def _hits(self, code: np.ndarray, scores: np.ndarray, positions: np.ndarray) -> list[Hit]:
        found = positions >= 0  # FAISS fills up with -1
        positions = positions[found]
        distances = self._distances(code, scores[found], positions)
        order = np.lexsort((positions, distances))
        return [self._hit(int(positions[i]), float(distances[i])) for i in order]

    @property
    def _is_exact_l2(self) -> bool:
        return self.manifest.metric == "l2" and isinstance(self.vectors, faiss.IndexFlat)

    def _distances(self, code: np.ndarray, scores: np.ndarray, positions: np.ndarray) -> np.ndarray:
        if self.manifest.metric == "inner_product":
            return -scores
        if self.manifest.metric == "cosine":
            return np.maximum(1 - scores, 0)
        if self._is_exact_l2:
            return np.linalg.norm(self.vectors.reconstruct_batch(positions) - code, axis=1)
        return np.sqrt(np.maximum(scores, 0))

    def _hit(self, position: int, distance: float) -> Hit:
        [row] = self.rows.slice(position, 1).to_pylist()
        return Hit(id=row.pop("id"), text=row.pop("text"), distance=distance, labels=row)


def build_index(
    model: SentenceModel,
    corpus: Corpus,
    output: Path | str,
    *,
    model_dir: Path | str,
    split: str = "train",
    metric: str = "l2",
    factory: str = "Flat",
) -> Index:
    """Encodes one split (posterior means), and writes and opens an index of it in the place of `output`.

    `metric`: `l2`, `inner_product` or `cosine`. `factory`: what FAISS's `index_factory` takes, such as
    `Flat` (exact), `IVF1024,Flat` or `HNSW32`. `model_dir` is where `open_index` will find the model.

    Raises `UserError` for a corpus of another tokenizer, an unknown split, metric or factory, a split
    too small to train the factory, and an `output` that holds something else than an index.
    """
    output = Path(output)
    if output.exists() and not (output / MANIFEST).is_file():
        raise UserError(f"{output} exists and is not an index; give another place, so that it is not lost")
    if corpus.tokenizer.hash != model.tokenizer.hash:
        raise UserError(
            f"corpus {corpus.directory} was prepared for another tokenizer than the model's; "
            "index the corpus that the model was trained on, or prepare this one with the model's tokenizer"
        )
    rows = corpus.split(split)
    if "id" in rows.label_columns:
        raise UserError(f"{corpus.directory} has a label column 'id', which the index numbers its rows by; rename it")
    vectors = _untrained(factory, metric, model.latent_dim)
    # The place is made before the long work, which an unwritable one would waste.
    with storage.new_directory(output) as partial:
        _train(vectors, model, rows, factory=factory, metric=metric)
        for codes in _encoded(model, rows, range(len(rows)), metric, f"encoding {corpus.name} {split}"):
            vectors.add(codes)
        segment = _write_segment(partial / _SEGMENT, vectors, rows)
        manifest = Manifest(
            format=FORMAT,
            model=str(Path(model_dir).resolve()),
            model_hash=model.hash,
            tokenizer_hash=model.tokenizer.hash,
            metric=metric,
            factory=factory,
            dimension=model.latent_dim,
            count=len(rows),
            segments=[segment],
        )
        storage.write_json(partial / MANIFEST, asdict(manifest))
    return open_index(output, model=model)


def open_index(directory: Path | str, *, model: SentenceModel | None = None) -> Index:
    """Opens an index, with the model that its manifest names unless `model` is given.

    Raises `UserError` where the index is missing, damaged or of a newer format, where the model is no
    longer where it was, and for another model than the one that the index was built with.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory)
    vectors, rows = _read_segment(directory, manifest)
    if model is None:
        model = _model_of(directory, manifest)
    if model.hash != manifest.model_hash:
        raise UserError(
            f"{directory} was built with another model, the one that was at {manifest.model}; codes of two models "
            "cannot be compared: give that model, or build the index again with this one"
        )
    return Index(directory=directory, manifest=manifest, model=model, vectors=vectors, rows=rows)


def _comparable(codes: np.ndarray, metric: str) -> np.ndarray:
    if metric == "cosine":
        faiss.normalize_L2(codes)
    return codes


def _untrained(factory: str, metric: str, dimension: int) -> Any:
    if metric not in _METRICS:
        raise UserError(f"unknown metric {metric!r}; {nearest(metric, list(_METRICS))}")
    try:
        return faiss.index_factory(dimension, factory, _METRICS[metric])
    except RuntimeError as error:
        raise UserError(
            f"FAISS cannot make an index {factory!r} for codes of {dimension} dimensions ({_reason(error)}); "
            "write for example Flat, IVF1024,Flat or HNSW32"
        ) from None


def _train(vectors: Any, model: SentenceModel, split: Split, *, factory: str, metric: str) -> None:
    if vectors.is_trained:
        return
    clusters = getattr(faiss.try_extract_index_ivf(vectors), "nlist", 0)
    size = min(len(split), max(_TRAINING_ROWS, clusters * _TRAINING_ROWS_PER_CLUSTER))
    sample = np.sort(np.random.default_rng(0).choice(len(split), size, replace=False, shuffle=False))
    codes = np.concatenate(list(_encoded(model, split, sample, metric, f"training {factory}")))
    try:
        vectors.train(codes)
    except RuntimeError as error:
        raise UserError(
            f"an index {factory!r} cannot be trained on the {len(split):,} sentences of {split.name!r} "
            f"({_reason(error)}); choose a smaller one, or Flat"
        ) from None


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without its function and source line."""
    return str(error).rpartition(".cpp:")[2].partition(": ")[2].rpartition(" failed: ")[2]


def _encoded(
    model: SentenceModel, split: Split, rows: range | np.ndarray, metric: str, description: str
) -> Iterator[np.ndarray]:
    """The codes of the given rows in their order, fp32 [at most _ROWS_PER_CHUNK, D] at a time."""
    for start in track(range(0, len(rows), _ROWS_PER_CHUNK), description):
        ids = split.ids(rows[start : start + _ROWS_PER_CHUNK])
        yield _comparable(model.posterior_of_ids(ids).mean.numpy(), metric)


def _write_segment(folder: Path, vectors: Any, split: Split) -> dict[str, Any]:
    """Writes one segment and returns what the manifest says of it."""
    folder.mkdir()
    with open(folder / _VECTORS, "wb") as file:
        # Given a name, FAISS ignores that the disk is full when it closes the file.
        faiss.write_index(vectors, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    _write_rows(folder / _ROWS, split)
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": storage.sha256(path)}
        for path in (folder / _VECTORS, folder / _ROWS)
    }
    return {"name": folder.name, "count": len(split), "files": files}


def _write_rows(path: Path, split: Split) -> None:
    answers = split.table.select(["text", *split.label_columns])
    schema = pa.schema([pa.field("id", pa.int64()), *answers.schema])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, len(split), _ROWS_PER_CHUNK):
            chunk = answers.slice(start, _ROWS_PER_CHUNK)
            ids = pa.array(range(start, start + chunk.num_rows), pa.int64())
            writer.write_table(chunk.add_column(0, "id", ids))


def _read_manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{directory} is not an index (no {MANIFEST} in it); make one with "
            f"`smim index build MODEL CORPUS -o {directory}`"
        )
    content = storage.read_json(path)
    try:
        if content["format"] != FORMAT:
            raise UserError(f"{directory} has index format {content['format']}, this version reads {FORMAT}")
        return Manifest(**content)
    except (KeyError, TypeError):
        raise UserError(f"{path} is not an index's manifest; it was edited or damaged") from None


def _read_segment(directory: Path, manifest: Manifest) -> tuple[Any, pa.Table]:
    [segment] = manifest.segments
    folder = directory / segment["name"]
    for name, described in segment["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; build the index again")
        if path.stat().st_size != described["bytes"] or storage.sha256(path) != described["sha256"]:
            raise UserError(f"{path} is not the file that {MANIFEST} names, it is truncated or damaged; build it again")
    return (
        faiss.read_index(str(folder / _VECTORS)),
        pa.ipc.open_stream(pa.memory_map(str(folder / _ROWS))).read_all(),
    )


def _model_of(directory: Path, manifest: Manifest) -> SentenceModel:
    try:
        return load(manifest.model)
    except UserError as error:
        raise UserError(
            f"the model that {directory} was built with cannot be loaded: {error}; say where it is now "
            "with `--model DIR` (in Python `model=smim.load(DIR)`)"
        ) from None
