"""Builds a prepared corpus.

python data_prep/build.py corpus=demo
python data_prep/build.py corpus=ptb corpus.path=FOLDER output=data/ptb
python data_prep/build.py corpus=text corpus.path=FILE corpus.name=mine
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep import demo, ptb, sources, text
from data_prep.writer import Row, write_corpus
from smim import config
from smim.errors import UserError, nearest
from smim.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class CorpusArgs:
    """`path`: the source file or folder. `min_count`: how often train must hold a word of the vocabulary.

    `seed`, `valid` and `test` (shares of the lines) decide the splits of a corpus that comes without.
    """

    builder: str
    name: str
    dir: str
    path: str | None = None
    splitter: str = "whitespace"
    min_count: int = 1
    seed: int = 0
    valid: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        problems = []
        if self.min_count < 1:
            problems.append(f"corpus.min_count is {self.min_count}, it must be at least 1")
        if not (self.valid > 0 and self.test > 0 and self.valid + self.test < 1):
            problems.append(
                f"corpus.valid={self.valid} and corpus.test={self.test} must be above 0 and leave a share for train"
            )
        if problems:
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from: rows of each split, read anew at every call, and what the card says."""

    splits: dict[str, Callable[[], Iterable[Row]]]
    card: dict[str, Any]


def _demo(args: CorpusArgs) -> Source:
    generated = demo.generate(seed=args.seed)
    return Source(
        splits={split: lambda split=split: generated[split] for split in generated},  # type: ignore[misc]
        card={"generator": "data_prep/demo.py", "seed": args.seed},
    )


def _ptb(args: CorpusArgs) -> Source:
    files = ptb.paths(Path(args.path) if args.path else None)
    return Source(
        splits={split: lambda path=path: ptb.rows(path) for split, path in files.items()},  # type: ignore[misc]
        card={"files": sources.describe(list(files.values()))},
    )


def _text(args: CorpusArgs) -> Source:
    if args.path is None:
        raise UserError("which file? give corpus.path=FILE, one sentence a line (.txt or .txt.gz)")
    path = Path(args.path)

    def read(split: str) -> Callable[[], Iterable[Row]]:
        return lambda: text.rows(path, split, seed=args.seed, valid=args.valid, test=args.test)

    return Source(
        splits={split: read(split) for split in ("train", "valid", "test")},
        card={"files": sources.describe([path]), "seed": args.seed, "valid": args.valid, "test": args.test},
    )


_SOURCES: dict[str, Callable[[CorpusArgs], Source]] = {"demo": _demo, "ptb": _ptb, "text": _text}


def main(cfg: DictConfig) -> None:
    """Reads the sources, makes the vocabulary from train, writes the corpus and prints its card."""
    args = config.make(CorpusArgs, cfg.corpus, "corpus")
    if args.builder not in _SOURCES:
        raise UserError(f"corpus.builder={args.builder} is unknown; {nearest(args.builder, list(_SOURCES))}")
    output = Path(cfg.output or args.dir)
    source = _SOURCES[args.builder](args)
    tokenizer = Tokenizer.train(
        (row["text"] for row in source.splits["train"]()), splitter=args.splitter, min_count=args.min_count
    )
    card = write_corpus(
        output,
        {split: read() for split, read in source.splits.items()},
        tokenizer,
        name=args.name,
        source=source.card,
        options={"splitter": args.splitter, "min_count": args.min_count},
    )
    for split, described in card["splits"].items():
        print(
            f"{split:6} {described['sentences']:>8,} sentences  {described['tokens']:>10,} tokens  "
            f"{described['length_mean']:.1f} ± {described['length_std']:.1f} a sentence"
        )
    print(f"vocabulary {card['vocabulary_size']:,}; written to {output}")


if __name__ == "__main__":
    config.run("build", main)
