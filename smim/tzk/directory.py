"""TzK directories: the prior, and a directory for each label. No pickle.

    DIR/tzk.json  prior.safetensors  labels/stars=5/knowledge.json  labels/stars=5/knowledge.safetensors

DIR is created with the prior in one step. Each label is written under another name and then renamed. It names the prior
that it belongs to, and there is no list of labels. So several processes can add labels at the same time and change no
existing files, and `rm -r` removes a label.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote

import torch
from safetensors.torch import save_file
from torch import nn

from smim import schema, storage
from smim.errors import UserError, too_low
from smim.model.weights import load_weights
from smim.tzk.args import GlowArgs, KnowledgeArgs, PriorArgs
from smim.tzk.flows import Step
from smim.tzk.glow import GlowStep, z_shape
from smim.tzk.images import LARGEST_IMAGE, ImagePrior
from smim.tzk.knowledge import Knowledge
from smim.tzk.labels import Label
from smim.tzk.prior import CodePrior, Shapes

# In format 1, coupling layers are called steps.
FORMAT = 2
CARD, PRIOR = "tzk.json", "prior.safetensors"
IMAGES = "images"
_LABELS, _KNOWLEDGE_CARD, _KNOWLEDGE = "labels", "knowledge.json", "knowledge.safetensors"
_LONGEST_NAME = 240  # bytes. Most file systems allow 255, of which a lock and an unfinished directory need some.

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class PriorCard:
    """The content of `tzk.json`. `model`: the path of the model at that time. `training`: how the prior was trained."""

    shapes: ClassVar[None] = None

    model: str
    model_hash: str
    dimension: int
    prior: PriorArgs
    training: dict[str, Any]
    weights_sha256: str

    def __post_init__(self) -> None:
        if problems := too_low(self, "the card", dimension=1):
            raise UserError("; ".join(problems))

    @property
    def width(self) -> int:
        """The largest size of a weight that the settings do not name."""
        return self.dimension


@dataclass(frozen=True)
class ImageCard:
    """The content of `tzk.json` for images. `shape`: [C, H, W] after padding."""

    kind: str
    shape: list[int]
    prior: GlowArgs
    training: dict[str, Any]
    weights_sha256: str

    def __post_init__(self) -> None:
        factor = 2**self.prior.num_scales
        if len(self.shape) != 3 or min(self.shape) < 1 or any(size % factor for size in self.shape[1:]):
            raise UserError(f"the card's shape {self.shape} is not that of images with {self.prior.num_scales} scales")
        if self.dimension > LARGEST_IMAGE:
            raise UserError(f"the card's shape {self.shape} has more than {LARGEST_IMAGE:,} numbers")

    @property
    def shapes(self) -> Shapes:
        channels, rows, columns = self.shape
        return Shapes((channels, rows, columns), z_shape((channels, rows, columns), self.prior.num_scales))

    @property
    def dimension(self) -> int:
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """The channels of z. The weights do not depend on the rows and columns."""
        return self.shapes.z[0]


@dataclass(frozen=True)
class KnowledgeCard:
    """The content of `knowledge.json`. `prior_sha256`: the hash of the weights of the label's prior."""

    label: Label
    knowledge: KnowledgeArgs
    frequency: float
    training: dict[str, Any]
    prior_sha256: str
    weights_sha256: str

    def __post_init__(self) -> None:
        if not 0 < self.frequency < 1:
            raise UserError(f"the card's frequency of {self.label} is {self.frequency}, but it must be between 0 and 1")


def save_prior(directory: Path, prior: CodePrior, *, training: dict[str, Any], **facts: Any) -> str:
    """Write the prior into an empty directory, which the caller then renames. Return the hash of its weights.

    `facts`: for codes, the `model` and its `model_hash`.
    """
    if prior.shapes is None:
        facts |= {"dimension": prior.dim}
    else:
        facts |= {"kind": IMAGES, "shape": list(prior.shapes.t)}
    return _save(directory, CARD, PRIOR, prior, **facts, prior=asdict(prior.args), training=training)


def load_prior(directory: Path) -> tuple[PriorCard, CodePrior]:
    """Load the prior of codes. Raises `UserError` if it is missing, incomplete, damaged or of another format."""
    card = _card(PriorCard, directory)
    make = partial(CodePrior, card.dimension, card.prior)
    return card, _load_prior(directory, card, make, layers=card.prior.num_coupling_layers)


def load_image_prior(directory: Path) -> tuple[ImageCard, ImagePrior]:
    """Load the prior of images. Raises `UserError` like `load_prior`."""
    card = _card(ImageCard, directory)
    make = partial(ImagePrior, card.shapes.t, card.prior)
    return card, _load_prior(directory, card, make, layers=card.prior.num_coupling_layers * card.prior.num_scales)


def _card(kind: type[C], directory: Path) -> C:
    of_images = kind is ImageCard
    if not (directory / CARD).is_file():
        command = "smim tzk images fit CORPUS" if of_images else "smim tzk fit MODEL CORPUS"
        raise UserError(f"{directory} holds no TzK (no {CARD} in it); make one with `{command} -o {directory}`")
    found = storage.read_json(storage.own_file(directory, CARD)).get("kind")
    if (found == IMAGES) != of_images:
        raise UserError(
            f"{directory} holds a TzK of {'sentences' if of_images else 'images'}; "
            f"use `smim tzk {'' if of_images else 'images '}...` for it"
        )
    return _read(kind, directory, CARD)


def _load_prior(directory: Path, card: PriorCard | ImageCard, make: Callable[[], M], *, layers: int) -> M:
    with _repaired_by("fit it again"):
        return _load(
            storage.own_file(directory, PRIOR),
            make,
            sha256=card.weights_sha256,
            layers=layers,
            widths=(card.width, card.prior.hidden_dim),
        )


def save_knowledge(
    directory: Path, label: Label, knowledge: Knowledge, *, prior_sha256: str, training: dict[str, Any]
) -> None:
    """Write a label into an empty directory, which the caller then renames to `label_directory`."""
    _save(
        *(directory, _KNOWLEDGE_CARD, _KNOWLEDGE, knowledge),
        label=asdict(label),
        knowledge=asdict(knowledge.args),
        frequency=knowledge.frequency,
        training=training,
        prior_sha256=prior_sha256,
    )


def load_knowledge(directory: Path, label: Label, prior: PriorCard | ImageCard) -> Knowledge:
    """Load a label. Raises `UserError` like `load_prior`, and if the label belongs to another prior."""
    folder = label_directory(directory, label)
    inside = folder.relative_to(directory).as_posix()
    with _repaired_by(f"add {label} again with --force"):
        card = _read(KnowledgeCard, directory, f"{inside}/{_KNOWLEDGE_CARD}")
        if (card.label, card.prior_sha256) != (label, prior.weights_sha256):
            raise UserError(f"{folder} has the label {card.label}, trained with another prior than that of {directory}")
        return _load(
            storage.own_file(directory, f"{inside}/{_KNOWLEDGE}"),
            partial(Knowledge, prior.dimension, card.knowledge, frequency=card.frequency, shapes=prior.shapes),
            sha256=card.weights_sha256,
            layers=card.knowledge.num_coupling_layers + card.knowledge.num_code_layers,
            widths=(prior.width, card.knowledge.hidden_dim, card.knowledge.code_dim),
        )


def label_directory(directory: Path, label: Label) -> Path:
    """The directory of a label, which may be missing. Raises `UserError` if its name would be too long."""
    name = _names(directory).get(label)
    if name is None:
        name = "".join(map(_encoded, str(label)))
        if (size := len(os.fsencode(name))) > _LONGEST_NAME:
            raise UserError(
                f"the label {label} would have a directory whose name takes {size} bytes, but at most {_LONGEST_NAME} "
                "are possible; prepare the corpus with a shorter value"
            )
    return storage.own_path(directory, f"{_LABELS}/{name}")


def labels_in(directory: Path) -> list[Label]:
    """List the labels that were added, sorted by name."""
    return sorted(_names(directory))


def _names(directory: Path) -> dict[Label, str]:
    """The name of each label's directory. Earlier versions encoded more characters, which `unquote` reads too."""
    folder = directory / _LABELS
    paths = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    # Names of unfinished directories begin with a dot.
    return {Label.parse(unquote(path.name)): path.name for path in paths if not path.name.startswith(".")}


def _encoded(character: str) -> str:
    """A character of a directory's name, percent-encoded if it has a meaning in names or cannot be printed."""
    if character.isprintable() and character not in "%/.\\":
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _save(directory: Path, card: str, weights: str, module: nn.Module, **facts: Any) -> str:
    save_file(module.state_dict(), directory / weights)
    sha256 = storage.sha256(directory / weights)
    storage.write_json(directory / card, {"format": FORMAT, **facts, "weights_sha256": sha256})
    return sha256


def _read(kind: type[C], directory: Path, name: str) -> C:
    content = storage.read_json(path := storage.own_file(directory, name))
    if (found := content.pop("format", None)) not in (1, FORMAT):
        raise UserError(f"{path} has TzK format {found}, but this version reads 1 and {FORMAT}; make it again")
    for args in (content.get("prior"), content.get("knowledge")):
        if found == 1 and isinstance(args, dict) and "num_steps" in args:
            args["num_coupling_layers"] = args.pop("num_steps")
    return schema.make(kind, content, directory / name)


def _load(path: Path, make: Callable[[], M], *, sha256: str, layers: int, widths: tuple[int, ...]) -> M:
    module = load_weights(path, make, sha256=sha256, layers=layers, widths=widths)
    for step in module.modules():
        if isinstance(step, Step | GlowStep) and not torch.equal(
            step.order.sort().values, torch.arange(len(step.order))
        ):
            raise UserError(f"{path} is damaged: the shuffle of a coupling layer leaves out dimensions")
    return module


@contextmanager
def _repaired_by(repair: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; {repair}") from None
