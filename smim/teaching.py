"""Compute a teacher's vectors for a prepared corpus: embeddings by any sentence-transformers model.

    smim teach data/ptb --teacher sentence-transformers/all-MiniLM-L6-v2

Equal texts are read once, by this process, several, or Ray. In the working directory (`smim/work.py`), `texts.npy`
holds the first row of each text, numbered over all splits. `vectors/` holds the teacher's vectors of these, and then
of the vocabulary's pieces, in shards. `done/00000.json` marks a finished shard. At the end, these form the result.

Shapes: V dimensions of the teacher.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smim import __version__, storage
from smim.engine import EngineArgs, open_engine
from smim.errors import SmimError, UserError, check_whole, not_among, too_low
from smim.hub import reported, snapshot_download
from smim.preparation.without import describe, normalised, texts_without, without_files
from smim.processes import resolve_precision
from smim.progress import console, sentences_bar
from smim.search import filters
from smim.shards import FileInfo, ShardedArray, ShardInfo, finished, write_array, write_mark, write_shard
from smim.text.corpus import PAIR_COLUMNS, Corpus
from smim.text.teacher import AXES, CARD, COUNTS, FORMAT, PIECES, TaughtSplit, Teacher, TeacherCard
from smim.text.tokenizer import SPECIAL, Tokenizer
from smim.work import WorkDirectory

# Files of a teacher on the hub: settings and weights, but no pickles and no formats of other programs.
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_OTHER_FORMS = ("onnx/*", "openvino/*")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_TEXT = "text"
_SENTENCES_A_BATCH = 256


@dataclass(frozen=True)
class TeachArgs(EngineArgs):
    """How the teacher runs; this affects only rounding.

    `precision`: fp32, bf16, or auto (bf16 if the hardware multiplies matrices in it). `rows_per_task`: texts that a
    process reads at a time; finished tasks are not repeated. `workers`: processes; None for one, with all threads.
    """

    section = "teach"
    task_size = "teach.rows_per_task"

    precision: str = "auto"
    rows_per_task: int = 4096
    rows_per_shard: int = 131_072

    def problems(self) -> list[str]:
        problems = super().problems() + not_among(self, self.section, precision=["auto", "bf16", "fp32"])
        return problems + too_low(self, self.section, rows_per_task=1, rows_per_shard=1)


@dataclass(frozen=True)
class TeachTask:
    """Some texts, with all that a fresh worker needs; paths are absolute.

    `texts_hash`: SHA-256 of `texts.npy`. `threads`: None for all.
    """

    number: int
    card: TeacherCard
    corpus: Path
    model: Path
    vectors: ShardedArray
    work: Path
    texts_hash: str
    threads: int | None


def teach(
    corpus_dir: Path | str,
    *,
    teacher: str,
    output: Path | str | None = None,
    without: Sequence[Path | str] = (),
    sentences: int | None = None,
    where: Mapping[str, Any] | None = None,
    args: TeachArgs | None = None,
) -> Path:
    """Write the teacher's vectors of all splits of a corpus to `output`, by default CORPUS-teacher; returns that path.

    `teacher` is a directory or a name on the Hugging Face hub. These sentences get zeros instead of a vector: those
    whose normalised text is in the files `without`; those whose labels fail the filter `where` (`smim.search.filters`),
    unless one with the same text passes; and, if `sentences` is given, all but that many distinct texts over all
    splits, chosen by a hash of each text. A restarted job skips finished work. Existing vectors of the same teacher,
    corpus and settings are kept.

    Raises `UserError` for anything but a corpus or a sentence-transformers model, for a filter that fits no split or
    that no sentence passes, and for an `output` that holds something else; `SmimError` if a vector is NaN.
    """
    args = args or TeachArgs()
    corpus_dir = Path(corpus_dir).resolve()
    output = Path(output).resolve() if output else corpus_dir.with_name(f"{corpus_dir.name}-teacher")
    corpus, model, files = Corpus.open(corpus_dir), find_teacher(teacher), without_files(without)
    if sentences is not None:
        check_whole("sentences", sentences, least=1)
    allowed = None if where is None else _allowed(corpus, where)
    card = _card(corpus, teacher, model, args)
    card = replace(card, without=describe(files), sentences=sentences, where=None if where is None else dict(where))
    # Everything that the vectors depend on, except where the teacher and the corpus are.
    identity = {**asdict(card), "teacher": None, "rows_per_task": args.rows_per_task, "version": __version__}
    work = WorkDirectory(output, identity, card=CARD, kind="a teacher's directory")
    with work.owned():
        if _is_there(output, card):
            console.print(f"{output} already holds the vectors of this teacher and corpus", soft_wrap=True)
            return output
        first, text_of = _distinct(corpus, texts_without(files) if files else frozenset(), allowed, sentences)
        write_array(work.path / "texts.npy", first)
        for folder in ("done", "vectors"):
            (work.path / folder).mkdir(exist_ok=True)
        count = len(first) + len(_pieces(corpus.tokenizer))
        vectors = ShardedArray(work.path / "vectors", _TEXT, count, card.dimension, "fp32", args.rows_per_task)
        _read_all(card, corpus_dir, model, vectors, work.path, args)
        _write(work.result, replace(card, distinct=len(first)), corpus, vectors, text_of)
    left_out = sum(int((rows < 0).sum()) for rows in text_of.values())
    console.print(
        f"{len(first):,} distinct texts in {card.dimension} dimensions, {left_out:,} sentences left out; {output}",
        soft_wrap=True,
    )
    return output


def _card(corpus: Corpus, teacher: str, model: Path, args: TeachArgs) -> TeacherCard:
    """The card before any text is read, without the splits' vectors."""
    precision, teacher_hash = resolve_precision(args.precision), _hash(model)
    splits = corpus.card["splits"]
    return TeacherCard(
        teacher=teacher,
        teacher_hash=teacher_hash,
        precision=precision,
        dimension=_encode(_opened(model, teacher_hash), ["a"], precision).shape[1],
        corpus=corpus.name,
        tokenizer_hash=corpus.tokenizer.hash,
        vocabulary_size=corpus.tokenizer.vocabulary_size,
        distinct=0,
        without=[],
        rows_per_shard=args.rows_per_shard,
        splits={name: TaughtSplit(corpus.hash_of(name), splits[name]["sentences"], 0) for name in splits},
    )


def _read_all(card: TeacherCard, corpus: Path, model: Path, vectors: ShardedArray, work: Path, args: TeachArgs) -> None:
    """Compute each shard of `vectors` that no earlier job has finished."""
    waiting = [number for number in range(vectors.num_shards) if _finished(work, number) is None]
    if args.engine == "local" and args.workers is None:
        args = replace(args, workers=1)
    threads = max(1, torch.get_num_threads() // args.workers) if args.engine == "local" and args.workers else None
    texts = storage.sha256(work / "texts.npy")
    tasks = [TeachTask(number, card, corpus, model, vectors, work, texts, threads) for number in waiting]
    total = sum(len(vectors.rows_of(number)) for number in waiting)
    with sentences_bar(f"teaching {card.corpus}", total=total) as advance, open_engine(args, gpu=True) as engine:
        for number, _ in engine.map(teach_task, tasks):
            advance(len(vectors.rows_of(tasks[number].number)))
    if missing := [number for number in range(vectors.num_shards) if _finished(work, number) is None]:
        raise SmimError(f"texts {missing[0]} are missing or damaged in {work}; run the same command again")


def teach_task(task: TeachTask) -> None:
    """Write the teacher's unit vectors of some texts; the worker keeps teacher and corpus for its next tasks."""
    if _finished(task.work, task.number) is not None:
        return
    if task.threads:
        torch.set_num_threads(task.threads)
    card, hashes = task.card, tuple((name, split.corpus_hash) for name, split in task.card.splits.items())
    read = _texts(task.corpus, hashes, task.work / "texts.npy", task.texts_hash)
    teacher = _opened(task.model, card.teacher_hash)
    found = _encode(teacher, read(task.vectors.rows_of(task.number)), card.precision)
    write_mark(task.work, task.number, write_shard(task.vectors.directory, task.number, {_TEXT: found}))


def _encode(teacher: Any, texts: list[str], precision: str) -> np.ndarray:
    """Unit vectors fp32 [len(texts), V]; zeros if the teacher gives a zero vector."""
    with torch.autocast(teacher.device.type, torch.bfloat16, enabled=precision == "bf16"):
        # The library batches texts of similar length.
        found = teacher.encode(texts, batch_size=_SENTENCES_A_BATCH, show_progress_bar=False, convert_to_tensor=True)
    vectors = found.float().cpu().numpy()
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        text = texts[int(np.argmin(finite))]
        raise SmimError(f"the teacher's vector of {text[:60]!r} is NaN or infinite; try --precision fp32")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


@lru_cache(maxsize=1)
def _opened(model: Path, teacher_hash: str) -> Any:
    if _hash(model) != teacher_hash:
        raise UserError(
            f"{model} is not the same on all machines, or was changed meanwhile; "
            "put the same files on all machines, and run the command again"
        )
    return open_teacher(model)


def open_teacher(model: Path) -> Any:
    """Open the `SentenceTransformer` of a directory; raises `UserError` for others. Nothing is unpickled."""
    model_class = _library()
    from transformers.utils import logging

    logging.disable_progress_bar()  # the bar for loading weights; ours counts sentences
    try:
        return model_class(str(model), model_kwargs={"use_safetensors": True}, local_files_only=True)
    except (OSError, LookupError, TypeError, ValueError, ImportError, AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{model} cannot be opened as a model of sentence-transformers ({reason})") from None


def _library() -> Any:
    """The model class of sentence-transformers; raises `UserError` if it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise UserError(
            f"a teacher needs sentence-transformers ({error}); install it with `pip install 'smim[hub]'`"
        ) from None
    return SentenceTransformer


def find_teacher(teacher: str) -> Path:
    """The directory of a sentence-transformers model: a given directory, or the hub's cache for a name."""
    _library()  # before anything is downloaded
    if Path(teacher).is_dir():
        return Path(teacher).resolve()
    with reported(teacher):
        return Path(snapshot_download(teacher, allow_patterns=list(_FILES), ignore_patterns=list(_OTHER_FORMS)))


def _hash(model: Path) -> str:
    """SHA-256 of a teacher's settings and weights, independent of its path."""
    files = sorted({path.relative_to(model).as_posix() for pattern in _FILES for path in model.rglob(pattern)})
    lines = [f"{name} {storage.sha256(model / name)}" for name in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _pieces(tokenizer: Tokenizer) -> list[str]:
    """The distinct texts of a vocabulary's words or pieces."""
    return list(dict.fromkeys(filter(None, _piece_texts(tokenizer))))


def _piece_texts(tokenizer: Tokenizer) -> list[str]:
    """Each word or piece as a text of its own; "" for special tokens, raw bytes and white space."""
    return [
        "" if id < len(SPECIAL) or _BYTE.fullmatch(tokenizer.token(id)) else tokenizer.decode([id]).strip()
        for id in range(tokenizer.vocabulary_size)
    ]


@lru_cache(maxsize=1)
def _texts(
    corpus_dir: Path, hashes: tuple[tuple[str, str], ...], texts: Path, texts_hash: str
) -> Callable[[range], list[str]]:
    """A function that reads the texts of given numbers: those of the corpus, then those of its vocabulary."""
    corpus = Corpus.open(corpus_dir)
    if any(corpus.hash_of(name) != known for name, known in hashes) or storage.sha256(texts) != texts_hash:
        raise UserError(
            f"{corpus_dir} or {texts} is not the same on all machines, or was changed meanwhile; "
            "put the same files on all machines, and run the command again"
        )
    splits = [corpus.split(name) for name, _ in hashes]
    starts = np.cumsum([0, *map(len, splits)])[:-1]
    first, pieces = np.load(texts, mmap_mode="r"), _pieces(corpus.tokenizer)

    def read(numbers: range) -> list[str]:
        rows = first[numbers.start : numbers.stop]
        found = [
            text
            for split, start in zip(splits, starts, strict=True)
            for text in split.texts(rows[(rows >= start) & (rows < start + len(split))] - start)
        ]
        return found + pieces[max(0, numbers.start - len(first)) : max(0, numbers.stop - len(first))]

    return read


def _allowed(corpus: Corpus, where: Mapping[str, Any]) -> np.ndarray:
    """Which rows pass the filter, numbered over all splits, bool; raises `UserError` if none does."""
    part, passes = filters.parse(where), []
    for split in map(corpus.split, corpus.card["splits"]):
        table = split.table.select(split.label_columns)
        condition = filters.condition(part, table.schema)
        passes += [condition(batch) for batch in table.to_batches()]
    allowed = np.concatenate(passes)
    if not allowed.any():
        raise UserError(f"no sentence of {corpus.directory} passes the filter {json.dumps(where)}")
    return allowed


def _distinct(
    corpus: Corpus, without: frozenset[str], allowed: np.ndarray | None, most: int | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first row of each text, numbered over all splits, int64 ascending; and for each split its rows' text numbers.

    Texts are numbered in the order of these rows. -1 marks a sentence that is left out, including texts after the first
    `most` in the order of their hashes.
    """
    splits = [corpus.split(name) for name in corpus.card["splits"]]
    digests, kept = [], []
    for split in splits:
        columns = [split.table.column(name) for name in ("text", PAIR_COLUMNS[0])[: 1 + split.has_pairs]]
        for texts in zip(*map(_texts_in, columns), strict=True):
            digests.append(hashlib.blake2b(texts[0].encode(), digest_size=16).digest())
            kept.append(not without or without.isdisjoint(map(normalised, texts)))
    hashes = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
    rows = np.flatnonzero(kept if allowed is None else np.logical_and(kept, allowed))
    _, first, number = np.unique(hashes[rows], axis=0, return_index=True, return_inverse=True)
    # `np.unique` sorts distinct texts by hash.
    place = np.full(len(first), -1)
    first = first[:most]
    order = np.argsort(first)
    place[order] = np.arange(len(order))
    text_of = np.full(len(hashes), -1)
    text_of[rows] = place[number.ravel()]
    parts = np.split(text_of, np.cumsum([len(split) for split in splits])[:-1])
    return rows[first[order]], {split.name: part for split, part in zip(splits, parts, strict=True)}


def _texts_in(column: Any) -> Iterator[str]:
    """The texts of a column, a chunk at a time."""
    for chunk in column.chunks:
        yield from chunk.to_pylist()


def _write(
    result: Path, card: TeacherCard, corpus: Corpus, vectors: ShardedArray, text_of: dict[str, np.ndarray]
) -> None:
    """Write the result: the rotated vectors of each row and piece, and the card."""
    in_train = text_of["train"]

    def read(texts: np.ndarray) -> np.ndarray:
        found = np.zeros((len(texts), card.dimension), np.float32)
        found[texts >= 0] = vectors.read(texts[texts >= 0])
        return found

    steps = range(0, len(in_train), card.rows_per_shard)
    axes = _principal_axes(read(in_train[start : start + card.rows_per_shard]) for start in steps)
    splits = {}
    for name, taught in card.splits.items():
        kept = ShardedArray(result, name, taught.count, card.dimension, "fp16", card.rows_per_shard)
        shards = [
            write_shard(result, number, {name: (read(text_of[name][rows.start : rows.stop]) @ axes).astype(np.float16)})
            for number, rows in ((number, kept.rows_of(number)) for number in range(kept.num_shards))
        ]
        splits[name] = replace(taught, left_out=int((text_of[name] < 0).sum()), shards=shards)
    number_of = {text: card.distinct + number for number, text in enumerate(_pieces(corpus.tokenizer))}
    pieces = np.array([number_of.get(text, -1) for text in _piece_texts(corpus.tokenizer)])
    arrays = {AXES: axes, PIECES: read(pieces) @ axes, COUNTS: _counts(corpus)}
    for name, array in arrays.items():
        write_array(result / name, array)
    files = {name: FileInfo.of(result / name) for name in arrays}
    storage.write_json(result / CARD, {"format": FORMAT, **asdict(replace(card, splits=splits, files=files))})


def _principal_axes(parts: Iterator[np.ndarray]) -> np.ndarray:
    """The right singular vectors of all rows, without centring, largest values first, fp32 [V, V]."""
    products = sum(part.T @ part for part in parts).astype(np.float64)
    axes = np.linalg.eigh(products)[1][:, ::-1]
    # Fix the sign so that the largest number of an axis is positive: the same on all machines.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0, keepdims=True), axis=0)
    return (axes * np.sign(largest)).astype(np.float32)


def _counts(corpus: Corpus) -> np.ndarray:
    """The count of each word or piece in train, int64 [W]."""
    counts, split = np.zeros(corpus.tokenizer.vocabulary_size, np.int64), corpus.split("train")
    for number in range(len(split.chunks)):
        offsets, tokens = split.chunk_ids(number)
        counts += np.bincount(tokens[offsets[0] : offsets[-1]], minlength=len(counts))
    return counts


def _finished(work: Path, number: int) -> ShardInfo | None:
    return finished(work, number, directory=work / "vectors")


def _is_there(output: Path, card: TeacherCard) -> bool:
    try:
        there = Teacher.open(output)
    except UserError:
        return False
    splits = {name: replace(split, left_out=0, shards=[]) for name, split in there.splits.items()}
    made = TeacherCard(**{each.name: getattr(there, each.name) for each in fields(TeacherCard)})
    return replace(made, teacher=card.teacher, distinct=0, files={}, splits=splits) == card
