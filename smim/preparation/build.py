"""Build a prepared corpus from a configuration: from any text, from vectors, or with a caller's recipe."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig

from smim import config
from smim.errors import UserError
from smim.preparation import digits, gmm, images, text
from smim.preparation.args import CorpusArgs
from smim.preparation.pipeline import PrepArgs, build
from smim.preparation.readers import files_not_read, shortened
from smim.preparation.recipe import Recipe
from smim.preparation.vectors import VectorArgs
from smim.progress import console
from smim.text.corpus import CARD
from smim.work import check_output

# By `corpus.builder`: the class of the settings, and the function that makes a recipe from them.
Recipes = Mapping[str, tuple[type[CorpusArgs], Callable[[Any], Recipe]]]
_TEXT: Recipes = {"text": (text.TextArgs, text.recipe)}
# Corpora of vectors: the class of the settings, and the function that writes the corpus and returns its card.
_VECTOR_CORPORA: dict[str, tuple[type[VectorArgs], Callable[[Any, Path], dict[str, Any]]]] = {
    "gmm": (gmm.GMMArgs, gmm.build),
    "digits": (digits.DigitsArgs, digits.build),
    "mnist": (images.ImageArgs, images.build_mnist),
    "fashion_mnist": (images.ImageArgs, images.build_fashion_mnist),
    "cifar10": (images.ImageArgs, images.build_cifar10),
    "omniglot": (images.DrawnArgs, images.build_omniglot),
    "images": (images.FolderArgs, images.build_folder),
}

# The largest numbers of unread files that the output and the card name.
_MOST_SHOWN, _MOST_IN_CARD = 8, 100


def main(cfg: DictConfig, published: Recipes = MappingProxyType({})) -> None:
    """Build the corpus and print a summary of its card. `published`: recipes besides the one for any text."""
    recipes = {**_TEXT, **published}
    name = cfg.corpus.get("builder")
    if name in _VECTOR_CORPORA:
        output = Path(cfg.output or cfg.corpus.dir)
        _print_vectors(build_vectors(cfg.corpus, output), output)
        return
    if name not in recipes:
        known = ", ".join([*recipes, *_VECTOR_CORPORA])
        raise UserError(
            f"corpus.builder={name} is not known here; valid: {known}. For the published corpora, run "
            f"`python data_prep/build.py` in a clone of the project"
        )
    args_class, make_recipe = recipes[name]
    args, prep = config.make_all(
        cfg,
        corpus=lambda section: config.make(args_class, section, "corpus"),
        prep=lambda section: config.make(PrepArgs, section, "prep"),
    )
    output = Path(cfg.output or args.dir)
    recipe = make_recipe(args)
    if unread := files_not_read(args.sources, [each.path for each in recipe.inputs]):
        console.print(f"not read: {shortened(unread, _MOST_SHOWN)}")
        named = {"files": len(unread), "names": unread[:_MOST_IN_CARD]}
        recipe = replace(recipe, facts={**recipe.facts, "not_read": named})
    _print(build(recipe, args, output, prep), output)


def build_vectors(section: DictConfig, output: Path) -> dict[str, Any]:
    """Build a corpus of vectors at `output` from the section `corpus` of a configuration. Return its card."""
    if section.get("builder") not in _VECTOR_CORPORA:
        raise UserError(f"corpus={section.name} is not a corpus of vectors; valid: {', '.join(_VECTOR_CORPORA)}")
    args_class, build_corpus = _VECTOR_CORPORA[section.builder]
    args = config.make(args_class, section, "corpus")
    check_output(output, card=CARD, kind="a prepared corpus")  # before all pictures are read
    return build_corpus(args, output)


def _print_vectors(card: dict[str, Any], output: Path) -> None:
    shape = card.get("shape")
    for split, described in card["splits"].items():
        print(f"{split:6} {described['sentences']:>10,} {'images' if shape else 'vectors'}")
    for name, count in card.get("left_out", {}).items():
        print(f"left out: {count:,} {name}")
    kind = (
        f"{' x '.join(map(str, shape))}, binarisation {card.get('binarisation', 'none')}"
        if shape
        else f"{card['dimension']} dimensions"
    )
    print(f"{kind}; written to {output}")


def _print(card: dict[str, Any], output: Path) -> None:
    for split, described in card["splits"].items():
        overlap = described.get("also_in_train")
        print(
            f"{split:6} {described['sentences']:>10,} sentences  {described['tokens']:>12,} tokens  "
            f"{described['length_mean']:.1f} ± {described['length_std']:.1f} a sentence"
            + (f"  ({overlap:,} also in train)" if overlap else "")
        )
    for name, count in card["left_out"].items():
        print(f"left out: {count:,} {name}")
    for note in card["notes"]:
        print(f"note: {note}")
    print(f"vocabulary {card['vocabulary_size']:,}; written to {output}")
