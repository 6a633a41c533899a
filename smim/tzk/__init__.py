"""TzK: labels for the codes of a trained model, learned afterwards and one at a time (chapter 8 of the thesis).

import smim
from smim.text.corpus import Corpus
from smim.tzk import fit_tzk

corpus = Corpus.open("data/yelp")
tzk = fit_tzk(smim.load("runs/yelp/model"), corpus, "tzk/yelp", model_dir="runs/yelp/model")
tzk.add(corpus, "stars=5")
tzk.sample(10, ["stars=5"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# The module of each name.
_MODULES = {
    "args": ["FitArgs", "GlowArgs", "KnowledgeArgs", "PriorArgs"],
    "report": ["LabelReport", "measure"],
    "model": ["TzK", "fit_tzk", "open_tzk"],
    "image_model": ["ImageReport", "ImageTzK", "fit_image_tzk", "open_image_tzk"],
    "pictures": ["write_grid"],
}
__all__ = [
    "FitArgs",
    "GlowArgs",
    "ImageReport",
    "ImageTzK",
    "KnowledgeArgs",
    "LabelReport",
    "PriorArgs",
    "TzK",
    "fit_image_tzk",
    "fit_tzk",
    "measure",
    "open_image_tzk",
    "open_tzk",
    "write_grid",
]

if TYPE_CHECKING:
    from smim.tzk.args import FitArgs, GlowArgs, KnowledgeArgs, PriorArgs
    from smim.tzk.image_model import ImageReport, ImageTzK, fit_image_tzk, open_image_tzk
    from smim.tzk.model import TzK, fit_tzk, open_tzk
    from smim.tzk.pictures import write_grid
    from smim.tzk.report import LabelReport, measure


def __getattr__(name: str) -> Any:
    # Import lazily, because importing torch takes seconds.
    if name not in __all__:
        raise AttributeError(f"module 'smim.tzk' has no attribute {name!r}")
    module = next(module for module, names in _MODULES.items() if name in names)
    return getattr(import_module(f"smim.tzk.{module}"), name)
