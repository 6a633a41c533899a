"""Builds a prepared corpus: python data_prep/build.py corpus=ptb corpus.path=FOLDER output=data/ptb"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep import demo, ptb, sources
from data_prep.writer import Row, write_corpus
from smim import config
from smim.errors import UserError
from smim.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class CorpusArgs:
    """`path`: folder of the source files. `min_count`: how often train must hold a word of the vocabulary."""

    name: str
    dir: str
    path: str | None = None
    splitter: str = "whitespace"
    min_count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise UserError(f"corpus.min_count is {self.min_count}, it must be at least 1")


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


_SOURCES: dict[str, Callable[[CorpusArgs], Source]] = {"demo": _demo, "ptb": _ptb}


def main(cfg: DictConfig) -> None:
    """Reads the sources, makes the vocabulary from train, writes the corpus and prints its card."""
    args = config.make(CorpusArgs, cfg.corpus, "corpus")
    if args.name not in _SOURCES:
        raise UserError(f"corpus={args.name} cannot be built; valid: {', '.join(_SOURCES)}")
    output = Path(cfg.output or args.dir)
    source = _SOURCES[args.name](args)
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
