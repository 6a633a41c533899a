"""TzK directories: the prior, and a directory for each label. No pickle.

    DIR/tzk.json  prior.safetensors  labels/stars=5/knowledge.json  labels/stars=5/knowledge.safetensors

DIR is created with the prior in one step. Each label is written under another name and then renamed. It names the prior
that it belongs to, and there is no list of labels. So several processes can add labels at the same time and change no
existing files, and `rm -r` removes a label.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import torch
from safetensors.torch import save_file
from torch import nn

from smim import schema, storage
from smim.errors import UserError, too_low
from smim.model.weights import load_weights
from smim.tzk.flows import Step
from smim.tzk.knowledge import Knowledge, KnowledgeArgs
from smim.tzk.labels import Label
from smim.tzk.prior import CodePrior, PriorArgs

# In format 1, coupling layers are called steps.
FORMAT = 2
CARD, PRIOR = "tzk.json", "prior.safetensors"
_LABELS, _KNOWLEDGE_CARD, _KNOWLEDGE = "labels", "knowledge.json", "knowledge.safetensors"

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class PriorCard:
    """The content of `tzk.json`. `model`: the path of the model at that time. `training`: how the prior was trained."""

    model: str
    model_hash: str
    dimension: int
    prior: PriorArgs
    training: dict[str, Any]
    weights_sha256: str

    def __post_init__(self) -> None:
        if problems := too_low(self, "the card", dimension=1):
            raise UserError("; ".join(problems))


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


def save_prior(directory: Path, prior: CodePrior, *, model: Path, model_hash: str, training: dict[str, Any]) -> None:
    """Write the prior into an empty directory, which the caller then renames."""
    _save(
        *(directory, CARD, PRIOR, prior),
        model=str(model.resolve()),
        model_hash=model_hash,
        dimension=prior.dim,
        prior=asdict(prior.args),
        training=training,
    )


def load_prior(directory: Path) -> tuple[PriorCard, CodePrior]:
    """Load the prior. Raises `UserError` if it is missing, incomplete, damaged or of another format."""
    if not (directory / CARD).is_file():
        raise UserError(
            f"{directory} holds no TzK (no {CARD} in it); make one with `smim tzk fit MODEL CORPUS -o {directory}`"
        )
    card = _read(PriorCard, directory, CARD)
    with _repaired_by("fit it again"):
        prior = _load(
            storage.own_file(directory, PRIOR),
            partial(CodePrior, card.dimension, card.prior),
            sha256=card.weights_sha256,
            layers=card.prior.num_coupling_layers,
            widths=(card.dimension, card.prior.hidden_dim),
        )
    return card, prior


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


def load_knowledge(directory: Path, label: Label, prior: PriorCard) -> Knowledge:
    """Load a label. Raises `UserError` like `load_prior`, and if the label belongs to another prior."""
    folder = label_directory(directory, label)
    inside = folder.relative_to(directory).as_posix()
    with _repaired_by(f"add {label} again with --force"):
        card = _read(KnowledgeCard, directory, f"{inside}/{_KNOWLEDGE_CARD}")
        if (card.label, card.prior_sha256) != (label, prior.weights_sha256):
            raise UserError(f"{folder} has the label {card.label}, trained with another prior than that of {directory}")
        return _load(
            storage.own_file(directory, f"{inside}/{_KNOWLEDGE}"),
            partial(Knowledge, prior.dimension, card.knowledge, frequency=card.frequency),
            sha256=card.weights_sha256,
            layers=card.knowledge.num_coupling_layers,
            widths=(prior.dimension, card.knowledge.hidden_dim, card.knowledge.code_dim),
        )


def label_directory(directory: Path, label: Label) -> Path:
    # Names of unfinished directories begin with a dot.
    return storage.own_path(directory, f"{_LABELS}/{quote(str(label), safe='= ').replace('.', '%2E')}")


def labels_in(directory: Path) -> list[Label]:
    """List the labels that were added, sorted by name."""
    folder = directory / _LABELS
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    return sorted(Label.parse(unquote(name)) for name in names)


def _save(directory: Path, card: str, weights: str, module: nn.Module, **facts: Any) -> None:
    save_file(module.state_dict(), directory / weights)
    content = {"format": FORMAT, **facts, "weights_sha256": storage.sha256(directory / weights)}
    storage.write_json(directory / card, content)


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
        if isinstance(step, Step) and not torch.equal(step.order.sort().values, torch.arange(len(step.order))):
            raise UserError(f"{path} is damaged: the shuffle of a coupling layer leaves out dimensions")
    return module


@contextmanager
def _repaired_by(repair: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; {repair}") from None
