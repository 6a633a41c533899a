"""Make the tokenizer of a corpus from the sentences of train."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import smim
from smim.engine import Engine, run_all
from smim.errors import not_among, refuse, too_low
from smim.preparation.reading import Part, read_batches, texts_of
from smim.preparation.selection import UNUSED
from smim.preparation.splitting import SplitTask, split_part
from smim.text.pieces import SentencePieceTokenizer
from smim.text.tokenizer import Tokenizer
from smim.text.words import SPLITTERS, WordTokenizer, nearest_min_count

_KINDS = ["word", "unigram", "bpe"]
# The number of parts whose counts are kept before they are merged.
_PARTS_PER_MERGE = 16


@dataclass(frozen=True)
class TokenizerArgs:
    """The settings of the tokenizer (`corpus.tokenizer.` on the command line).

    `dir`: an existing tokenizer to use instead of a new one; other settings then have no effect. It is the directory
    of a tokenizer or of a model, or the name of a model that comes with the package.

    `kind`: word, or SentencePiece's unigram or bpe. At word level, `splitter` is whitespace or tweet. Words with fewer
    than `min_count` occurrences in train become `<unk>`. `max_size` bounds the vocabulary. With `near`, the minimum
    count is the one from `min_count` up whose vocabulary size is nearest to `near`.

    A SentencePiece vocabulary has `size` pieces, and is trained on about `sample_bytes` of train at most. It can encode
    every text, because characters without a piece become bytes.
    """

    dir: str | None = None
    kind: str = "word"
    splitter: str = "whitespace"
    min_count: int = 1
    max_size: int | None = None
    near: int | None = None
    size: int = 16_000
    sample_bytes: int = 50_000_000

    def __post_init__(self) -> None:
        prefix = "corpus.tokenizer"
        problems = too_low(self, prefix, min_count=1, max_size=5, near=5, size=5, sample_bytes=1)
        problems += not_among(self, prefix, kind=_KINDS, splitter=SPLITTERS)
        refuse(problems)
        if self.dir is not None:
            object.__setattr__(self, "dir", str(_found(self.dir)))

    def describe(self) -> dict[str, Any]:
        """Return the settings that this kind of tokenizer uses, for the corpus's card."""
        if self.dir is not None:
            return {"kind": Tokenizer.load(self.dir).kind, "dir": self.dir}
        names = ["splitter", "min_count", "max_size"] if self.kind == "word" else ["size", "sample_bytes"]
        return {"kind": self.kind, **{name: getattr(self, name) for name in names}}


def _found(given: str) -> Path:
    """Find the directory of a tokenizer, from that of a model or the name of a packaged model."""
    path, packaged = Path(given), Path(smim.__file__).parent / "pretrained" / given
    if len(path.parts) == 1 and not path.exists() and packaged.is_dir():
        path = packaged
    return path / "tokenizer" if (path / "tokenizer").is_dir() else path


def make_tokenizer(
    args: TokenizerArgs,
    parts: Sequence[Part],
    splits: Sequence[np.ndarray],
    *,
    train: int,
    engine: Engine,
    folder: Path,
) -> tuple[Tokenizer, dict[str, Any]]:
    """Make the tokenizer. Return it with its settings for the card, which include the chosen minimum count.

    `splits`: the split of each sentence of each part. `train`: the number of the split to learn from. At word level,
    the words of all drawn sentences are written to `folder`.
    """
    given = Tokenizer.load(args.dir) if args.dir is not None else None
    if given is not None and not isinstance(given, WordTokenizer):
        return given, args.describe()
    if given is None and args.kind != "word":
        texts = _sample(parts, [each == train for each in splits], args.sample_bytes)
        pieces = SentencePieceTokenizer.train(texts, algorithm=args.kind, vocabulary_size=args.size)
        return pieces, args.describe()
    folder.mkdir(exist_ok=True)
    tasks = [
        SplitTask(part, each, train, given.splitter if given else args.splitter, folder)
        for part, each in zip(parts, splits, strict=True)
        if (each != UNUSED).any()
    ]
    paths = run_all(engine, split_part, tasks, "splitting into words", [task.part.text_bytes for task in tasks])
    if given is not None:
        return given, args.describe()
    words, counts = _counts_of(paths)
    min_count = args.min_count
    if args.near is not None:
        min_count = nearest_min_count(words, counts, near=args.near, min_count=min_count)
    word_tokenizer = WordTokenizer.from_counts(
        words, counts, splitter=args.splitter, min_count=min_count, max_size=args.max_size
    )
    return word_tokenizer, {**args.describe(), "min_count": min_count}


def _counts_of(paths: Sequence[Path]) -> tuple[pa.Array, pa.Array]:
    """Return all words of train and their counts. Memory grows with the number of distinct words, not of parts."""
    tables: list[pa.Table] = []
    for number, path in enumerate(paths, start=1):
        counts = pa.Table.from_batches(read_batches(path.with_suffix(".counts")))
        tables.append(counts.filter(pc.greater(counts.column("count"), 0)))
        if len(tables) > _PARTS_PER_MERGE or number == len(paths):
            merged = pa.concat_tables(tables).combine_chunks().group_by("word").aggregate([("count", "sum")])
            tables = [merged.rename_columns(["word", "count"])]
    [table] = tables
    return table.column("word").combine_chunks(), table.column("count").combine_chunks()


def _sample(parts: Sequence[Part], in_train: Sequence[np.ndarray], max_bytes: int) -> Iterator[str]:
    """Yield sentences of train, about `max_bytes` at most: those with the smallest hashes, in the corpus's order."""
    total = sum(part.text_bytes * rows.mean() for part, rows in zip(parts, in_train, strict=True))
    share = min(1.0, max_bytes / total)
    for part, rows in zip(parts, in_train, strict=True):
        # Use the second half of the hash, because draws use the first half.
        chosen = rows & (part.hashes()[:, 1] / 2.0**64 <= share)
        start = 0
        for batch in part.batches():
            yield from texts_of(batch.filter(pa.array(chosen[start : start + len(batch)]))).to_pylist()
            start += len(batch)
