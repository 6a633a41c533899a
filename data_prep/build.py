"""Builds a prepared corpus.

    python data_prep/build.py corpus=demo
    python data_prep/build.py corpus=ptb corpus.path=FOLDER output=data/ptb
    python data_prep/build.py corpus=text corpus.path=FILE_OR_FOLDER corpus.name=mine
    python data_prep/build.py corpus=text corpus.path=... prep.engine=ray prep.address=HOST:PORT

Killed at any moment, the same command goes on from there. Every option: `python data_prep/build.py --cfg job`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep.corpora import demo, everything, ptb, reviews, text, wt103, yahoocqa
from data_prep.corpora.args import CorpusArgs
from data_prep.pipeline import BuildArgs, PrepArgs, build
from data_prep.recipe import Recipe
from smim import config
from smim.errors import UserError, nearest

# By `corpus.builder`: the settings, and what makes a recipe of them.
_CORPORA: dict[str, tuple[type[CorpusArgs], Callable[[Any], Recipe]]] = {
    "demo": (CorpusArgs, demo.recipe),
    "ptb": (CorpusArgs, ptb.recipe),
    "yelp15": (CorpusArgs, reviews.recipe),
    "yahoo": (CorpusArgs, reviews.recipe),
    "wt103": (CorpusArgs, wt103.recipe),
    "everything": (everything.EverythingArgs, everything.recipe),
    "yahoocqa": (CorpusArgs, yahoocqa.recipe),
    "text": (text.TextArgs, text.recipe),
}


def main(cfg: DictConfig) -> None:
    """Builds the corpus and prints what its card says."""
    name = cfg.corpus.get("builder")
    if name not in _CORPORA:
        raise UserError(f"corpus.builder={name} is unknown; {nearest(str(name), list(_CORPORA))}")
    args_class, make_recipe = _CORPORA[name]
    args, prep = config.make_all(
        cfg,
        corpus=lambda section: config.make(args_class, section, "corpus"),
        prep=lambda section: config.make(PrepArgs, section, "prep"),
    )
    output = Path(cfg.output or args.dir)
    build_args = BuildArgs(
        name=args.name,
        tokenizer=args.tokenizer,
        seed=args.seed,
        part_bytes=args.shard_bytes,
        skip_bad=args.on_error == "skip",
        deduplicate=args.deduplicate,
    )
    card = build(make_recipe(args), build_args, output, prep)
    _print(card, output)


def _print(card: dict[str, Any], output: Path) -> None:
    for split, described in card["splits"].items():
        overlap = described.get("also_in_train")
        print(
            f"{split:6} {described['sentences']:>10,} sentences  {described['tokens']:>12,} tokens  "
            f"{described['length_mean']:.1f} ± {described['length_std']:.1f} a sentence"
            + (f"  ({overlap:,} stand in train too)" if overlap else "")
        )
    for name, count in card["left_out"].items():
        print(f"left out: {count:,} {name}")
    for note in card["notes"]:
        print(f"note: {note}")
    print(f"vocabulary {card['vocabulary_size']:,}; written to {output}")


if __name__ == "__main__":
    config.run("build", main)
