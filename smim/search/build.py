"""Build an index of a corpus: encode its sentences with a model, or use latents that were computed before.

Building an index of several segments needs memory for one segment. FAISS is trained once, on rows of the whole corpus,
and each segment starts as a copy of the trained index. All segments therefore share their inverted lists and product
codes, and together they give the same results as one large segment.

Shapes: R rows, D latent dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from smim import lock, storage
from smim.engine import EngineArgs, open_engine
from smim.errors import Unsupported, UserError, nearest, refuse_if
from smim.generation import SentenceModel
from smim.model.directory import find
from smim.search import factory as factories
from smim.search.gpu import check_gpu
from smim.search.ids import new_ids
from smim.search.index import Index, open_index
from smim.search.labels import label_column
from smim.search.latents import Latents
from smim.search.manifest import LOCK, MANIFEST, PARTS, Manifest, SegmentInfo, segment_name
from smim.search.report import tuned
from smim.search.rows import Rows, Source, build_beside
from smim.search.snapshot import Snapshot
from smim.shards import DTYPES
from smim.text.corpus import OWN_COLUMNS, Corpus, Split
from smim.text.fitting import at_places


def build_index(
    model: SentenceModel,
    corpus: Corpus,
    output: Path | str,
    *,
    model_dir: Path | str | None = None,
    split: str = "train",
    metric: str | None = None,
    part: str | None = None,
    factory: str = factories.AUTO,
    store: str = "fp32",
    memory: int | None = None,
    latents: Latents | None = None,
    num_segments: int | None = None,
    engine: EngineArgs | None = None,
    gpu: bool = False,
    too_long: str = "truncate",
) -> Index:
    """Encode one split (posterior means), write an index of it to `output`, and open it.

    `metric`: `l2`, `inner_product` or `cosine`; the model's own by default. `part`: `meaning` indexes only the meaning
    part of codes. `factory`: a string of FAISS's `index_factory`, such as `Flat` (exact), `IVF1024,Flat` or `HNSW32`;
    `auto` chooses by the number of sentences and `memory`. `memory`: the bytes that the index may use, half of the
    machine's by default. `store`: fp32 or fp16, the type of the codes kept beside an approximate index. `model_dir`:
    where `open_index` finds the model; by default where it was loaded from. A sentence's id is its row in the split.

    `latents`: codes of the split, used instead of encoding. `num_segments`: the number of segments, each a range of
    rows; more are made if one needs more than `memory`. `engine`: build segments in parallel, in processes or on a
    Ray cluster, by default one per worker; FAISS is trained only once, in this process. `gpu`: FAISS trains and adds
    on a GPU. `too_long`: for sentences above the model's limit, `truncate` encodes the beginning and warns; `error`
    refuses them.

    Raises `UserError` for a corpus of another tokenizer, an unknown split, metric or factory, latents of other data, a
    split too small to train the factory, an existing `output` that is not an index, and an index that another process
    is changing. An existing index at `output` is replaced; no other process can change it meanwhile.
    """
    rows = corpus.split(split)
    refuse_if({
        f"corpus {corpus.directory} was prepared with another tokenizer than the model's; "
        "index the corpus that the model was trained on, or prepare this one with the model's tokenizer":
            corpus.tokenizer.hash != model.tokenizer.hash,
        f"{corpus.directory} has a label column 'id', but the index keeps its own ids under this name; rename it":
            "id" in rows.label_columns,
    })  # fmt: skip
    if latents is not None:
        check_latents(latents, model, corpus, split)
    else:
        model.tell_cut(rows.lengths, f"{corpus.directory}, split {split}", too_long=too_long)
    return _build(
        model,
        rows,
        f"{corpus.name} {split}",
        Path(output),
        model_dir=model_dir,
        latents=latents,
        ids=range(len(rows)),
        typed=False,
        workers=None if engine is None else _Workers(engine, corpus.directory, split),
        metric=metric,
        part=part,
        factory=factory,
        store=store,
        memory=memory,
        num_segments=num_segments,
        gpu=gpu,
    )


def index_texts(
    model: SentenceModel,
    texts: Sequence[str],
    output: Path | str,
    *,
    model_dir: Path | str | None = None,
    ids: Sequence[int] | None = None,
    labels: Mapping[str, Sequence[Any]] | None = None,
    metric: str | None = None,
    part: str | None = None,
    factory: str = factories.AUTO,
    store: str = "fp32",
    memory: int | None = None,
    gpu: bool = False,
    too_long: str = "truncate",
    empty: str = "skip",
    split: str = "auto",
) -> Index:
    """Build an index of a list of texts, as `build_index` does. A text's id is its position unless `ids` are given.

        model = smim.load("english-small")
        index_texts(model, ["It was destroyed.", "He plays the piano."], "indexes/two")

    `labels`: a list of values for each column, one value (or None) per text; a column has one type and keeps it. If
    the texts do not fit in memory, prepare them as a corpus first.

    `split`: `auto` splits texts of more than 60 tokens into sentences, `sentences` splits all texts, `none` splits
    none. The sentences of a text share its id and labels, and a hit is the nearest of them. If a text was split, the
    default search is by codes and words together (`Options`).

    `too_long` and `empty` say what happens to texts that do not fit (`smim.text.fitting`). By default, long texts are
    cut and texts without a word are left out with their ids and labels; warnings name them. Raises `UserError` as
    `build_index` does, and for texts, ids and labels that `IndexWriter.add` refuses.
    """
    labels = {} if labels is None else labels
    refuse_if({
        "there is no sentence to index; give at least one text": not len(texts),
        f"labels must be a dictionary with a list of values per column, not {str(labels)[:60]}":
            not isinstance(labels, Mapping),
    })  # fmt: skip
    numbers = new_ids(ids, len(texts), first=0)
    if taken := sorted({"id", *OWN_COLUMNS} & set(labels)):
        raise UserError(f"a label column cannot be called {', '.join(taken)}; rename it")
    columns = {name: label_column(name, values, len(texts)) for name, values in labels.items()}
    fitted = model.fitted(texts, allow_unknown=False, too_long=too_long, empty=empty, split=split)
    if not fitted.rows:
        raise UserError("there is no sentence to index, because no text contains a word")
    table = pa.table({"text": pa.array(fitted.texts, pa.string())})
    for name, column in columns.items():
        table = table.append_column(name, column.take(pa.array(fitted.rows)))
    numbers = numbers[fitted.rows]
    order = np.argsort(numbers, kind="stable")
    rows = _with_tokens(table, fitted.ids).take(pa.array(order))
    return _build(
        model,
        Split("texts", rows),
        f"{len(rows):,} texts",
        Path(output),
        model_dir=model_dir,
        latents=None,
        ids=numbers[order],
        typed=True,
        split_texts=None if split == "none" else split,
        metric=metric,
        part=part,
        factory=factory,
        store=store,
        memory=memory,
        gpu=gpu,
    )


def rebuild_index(
    directory: Path | str,
    model: SentenceModel,
    *,
    model_dir: Path | str | None = None,
    metric: str | None = None,
    part: str | None = None,
    factory: str | None = None,
    store: str | None = None,
    gpu: bool = False,
) -> Index:
    """Encode the sentences of an index with another model, and replace the index.

        rebuild_index("indexes/ptb", smim.load("english-small"))

    Texts, ids, labels and the next id are kept; deleted sentences are removed. `metric` defaults to the new model's.
    `factory` and `store` default to those of the old index; `part` too, if the new model has a meaning part. `gpu` as
    in `build_index`.

    A sentence that is too long for the new model is cut for its code, with a warning. Raises `UserError` as
    `build_index` does, for an index without sentences, for one in which the model knows no word, and for an index that
    another process changes meanwhile.
    """
    directory = Path(directory)
    manifest = Manifest.read(directory)
    snapshot = Snapshot.open(directory, manifest)
    live = [segment.live_positions() for segment in snapshot.segments]
    if not any(map(len, live)):
        raise UserError(f"{directory} holds no sentence to encode; build a new index instead")
    pairs = list(zip(snapshot.segments, live, strict=True))
    ids = np.concatenate([segment.ids[positions] for segment, positions in pairs])
    order = np.argsort(ids, kind="stable")
    ids, table = ids[order], pa.concat_tables(segment.table(own) for segment, own in pairs).take(pa.array(order))
    with at_places([f"{directory}, sentence {id}" for id in ids]):
        tokens = model.fitted(table["text"].to_pylist()).ids
    return _build(
        model,
        Split("texts", _with_tokens(table, tokens)),
        f"{len(table):,} texts",
        directory,
        model_dir=model_dir,
        latents=None,
        ids=ids,
        typed=True,
        metric=metric,
        part=part or (manifest.part if model.has_meaning_part else None),
        factory=factory or manifest.factory,
        store=store or manifest.store,
        memory=manifest.memory,
        num_segments=min(manifest.num_segments, len(table)),
        split_texts=manifest.split,
        gpu=gpu,
        replaced=manifest,
    )


def _with_tokens(table: pa.Table, ids: list[list[int]]) -> pa.Table:
    """Texts and labels in the columns of a corpus, with their token ids."""
    tokens = pa.array(ids, pa.list_(pa.int32()))
    labels = {name: table[name] for name in table.column_names if name != "text"}
    return pa.table({"text": table["text"], "ids": tokens, "length": tokens.value_lengths(), **labels})


@dataclass(frozen=True)
class BuildArgs(EngineArgs):
    """How segments are built in parallel: `engine` local (processes) or ray; `workers`; Ray's `address`."""

    section = "build"
    task_size = "segment (more `num_segments`)"


@dataclass(frozen=True)
class _Workers:
    """The engine that builds segments in parallel, and the prepared corpus that each worker opens."""

    engine: EngineArgs
    corpus: Path
    split: str


def _build(
    model: SentenceModel,
    split: Split,
    name: str,
    output: Path,
    *,
    model_dir: Path | str | None,
    latents: Latents | None,
    ids: range | np.ndarray,
    typed: bool,
    metric: str | None,
    part: str | None,
    factory: str,
    store: str,
    memory: int | None,
    num_segments: int | None = None,
    gpu: bool = False,
    workers: _Workers | None = None,
    replaced: Manifest | None = None,
    split_texts: str | None = None,
) -> Index:
    """Build an index; `ids` and `typed` as in `Rows`, `name` is for messages, `split_texts` as in `Manifest.split`.

    `replaced`: the index whose sentences these are, which must not have changed meanwhile.
    """
    check_gpu(gpu)
    model_dir = model.directory if model_dir is None else find(model_dir)
    if model_dir is None:
        raise UserError("this model was not loaded from a directory; save it, and give its directory as `model_dir`")
    count = len(split)
    can_be = f"it must be from 1 to {count:,}, the number of sentences in {split.name}"
    refuse_if({
        f"{output} exists and is not an index; give another path, so that it is not lost":
            output.exists() and not (output / MANIFEST).is_file(),
        f"store is {store!r}; {nearest(store, list(DTYPES))}": store not in DTYPES,
        f"num_segments is {num_segments}; {can_be}": num_segments is not None and not 1 <= num_segments <= count,
        f"part is {part!r}; {nearest(str(part), list(PARTS))}, or None for whole codes": part not in (None, *PARTS),
    })  # fmt: skip
    if part and not model.has_meaning_part:
        raise Unsupported("this model's codes have no meaning part; leave out `part` to index whole codes")
    metric, dimension = model.use.metric if metric is None else metric, model.dimension_of(part)
    rows = Rows(model, split, latents, ids, typed, metric, dimension, gpu)
    # Create the directory first: an unwritable one should fail before the long work.
    with ExitStack() as held:
        computes = gpu or latents is None
        engine = None if workers is None else held.enter_context(open_engine(workers.engine, gpu=computes))
        asked = num_segments or (1 if engine is None else min(engine.workers, count))
        chosen = factories.resolve(factory, -(-count // asked), dimension, memory, gpu=gpu)
        vectors = factories.make_vectors(chosen, metric, dimension)
        limit = factories.half_of_memory() if memory is None else max(1, memory)
        num = min(max(asked, -(-count * factories.bytes_per_row(vectors) // limit)), count)
        partial = held.enter_context(_in_the_place_of(output))
        if replaced is not None and Manifest.read(output) != replaced:
            raise lock.BeingChanged(f"{output} was changed by another process meanwhile; rebuild it again")

        def sampled(which: np.ndarray) -> Iterator[np.ndarray]:
            return rows.sampled(which, f"training {chosen}")

        factories.train_on_sample(vectors, chosen, count, sampled, gpu=gpu)
        ends = [0, *(_end_of_text(ids, count * number // num) for number in range(1, num + 1))]
        parts = [range(start, end) for start, end in pairwise(ends) if start < end]
        num = len(parts)
        stretches = {partial / segment_name(number): part for number, part in enumerate(parts, start=1)}
        if engine is None or workers is None:
            segments: list[SegmentInfo] = []
            doing = f"{'encoding' if latents is None else 'indexing'} {name}"
            for folder, stretch in stretches.items():
                folder.mkdir()
                own = faiss.clone_index(vectors) if len(segments) < num - 1 else vectors
                which = f", segment {len(segments) + 1} of {num}" if num > 1 else ""
                segments.append(rows.write(folder, stretch, own, chosen, store, name=folder.name, doing=doing + which))
        else:
            directory = None if latents is None else latents.directory.absolute()
            at = model_dir.absolute(), workers.corpus.absolute(), workers.split
            source = Source(*at, directory, metric, dimension, gpu)
            segments = build_beside(engine, source, stretches, vectors, chosen, store)
        manifest = Manifest(
            version=1,
            model=str(model_dir.resolve()),
            model_hash=model.hash,
            tokenizer_hash=model.tokenizer.hash,
            metric=metric,
            factory=factory,
            store=store,
            dimension=dimension,
            part=part,
            next_id=max(int(ids[-1]) + 1, replaced.next_id if replaced else 0),
            columns=split.label_columns,
            search={},
            segments=segments,
            num_segments=num,
            memory=memory,
            split=split_texts,
        )
        tuned(partial, manifest, least={}).write(partial)
    return open_index(output, model=model, gpu=gpu)


def _end_of_text(ids: range | np.ndarray, end: int) -> int:
    """`end`, or a later row if a text continues after it: a text lies in one segment."""
    return end if isinstance(ids, range) or end == 0 else int(np.searchsorted(ids, ids[end - 1], side="right"))


@contextmanager
def _in_the_place_of(output: Path) -> Iterator[Path]:
    """A `storage.new_directory`, while no other process can change or replace the existing index."""
    with ExitStack() as locks:
        if output.exists():
            locks.enter_context(lock.take(output / LOCK, output))
        with storage.new_directory(output) as partial:
            # The new index is visible before the old one is removed; nobody may replace it until then.
            locks.enter_context(lock.take(partial / LOCK, partial))
            yield partial


def check_latents(latents: Latents, model: SentenceModel, corpus: Corpus, split: str) -> None:
    """Raise `UserError` for latents of another model, or of other sentences than the split's."""
    asked = {
        "model": (latents.model_hash, model.hash),
        "tokenizer": (latents.tokenizer_hash, model.tokenizer.hash),
        "split": (latents.split, split),
        "corpus": (latents.corpus_hash, corpus.hash_of(split)),
        "number of sentences": (latents.count, len(corpus.split(split))),
        "dimension": (latents.dimension, model.latent_dim),
    }
    for name, (theirs, ours) in asked.items():
        if theirs != ours:
            raise UserError(
                f"{latents.directory} holds latents of another {name}: {latents.corpus_name} {latents.split} was "
                f"encoded with {latents.model}; encode {corpus.name} {split} with this model"
            )
