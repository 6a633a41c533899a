"""TzK on disk: the prior, and a directory for each label. No pickle.

    DIR/tzk.json  prior.safetensors  labels/stars=5/knowledge.json  labels/stars=5/knowledge.safetensors

DIR is written whole, with the prior. Each label is written beside its place and renamed in; it names the prior that it
was learned over, and nothing names the labels: so they are added without touching what is there, by several processes
at a time too, and `rm -r` takes one away.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
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

FORMAT = 1
CARD, PRIOR = "tzk.json", "prior.safetensors"
_LABELS, _KNOWLEDGE_CARD, _KNOWLEDGE = "labels", "knowledge.json", "knowledge.safetensors"


@dataclass(frozen=True)
class PriorCard:
    """What `tzk.json` says: `model` is a path, as it was; `training`: how the prior came about."""

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
    """What `knowledge.json` says: `prior_sha256` is of the weights of the prior that the label was learned over."""

    label: Label
    knowledge: KnowledgeArgs
    frequency: float
    training: dict[str, Any]
    prior_sha256: str
    weights_sha256: str

    def __post_init__(self) -> None:
        if not 0 < self.frequency < 1:
            raise UserError(f"the frequency of {self.label} is {self.frequency}, it must be between 0 and 1")


def save_prior(directory: Path, prior: CodePrior, *, model: Path, model_hash: str, training: dict[str, Any]) -> None:
    """Fills an empty directory, which is then to be renamed in."""
    save_file(prior.state_dict(), directory / PRIOR)
    card = PriorCard(
        model=str(model.resolve()),
        model_hash=model_hash,
        dimension=prior.dim,
        prior=prior.args,
        training=training,
        weights_sha256=storage.sha256(directory / PRIOR),
    )
    storage.write_json(directory / CARD, {"format": FORMAT, **asdict(card)})


def load_prior(directory: Path) -> tuple[PriorCard, CodePrior]:
    """Raises `UserError` where it is missing, incomplete, damaged or of another format."""
    path = directory / CARD
    if not path.is_file():
        raise UserError(
            f"{directory} holds no TzK (no {CARD} in it); make one with `smim tzk fit MODEL CORPUS -o {directory}`"
        )
    card = schema.make(PriorCard, _read(directory, CARD), path)
    with _told_repair("fit it again"):
        prior = load_weights(
            storage.own_file(directory, PRIOR),
            lambda: CodePrior(card.dimension, card.prior),
            sha256=card.weights_sha256,
            layers=card.prior.num_steps,
            widths=(card.dimension, card.prior.hidden_dim),
        )
        _check_shuffles(prior, directory / PRIOR)
    return card, prior


def save_knowledge(
    directory: Path, label: Label, knowledge: Knowledge, *, prior_sha256: str, training: dict[str, Any]
) -> None:
    """Fills an empty directory, which is then to be renamed to `label_directory`."""
    save_file(knowledge.state_dict(), directory / _KNOWLEDGE)
    card = KnowledgeCard(
        label=label,
        knowledge=knowledge.args,
        frequency=knowledge.frequency,
        training=training,
        prior_sha256=prior_sha256,
        weights_sha256=storage.sha256(directory / _KNOWLEDGE),
    )
    storage.write_json(directory / _KNOWLEDGE_CARD, {"format": FORMAT, **asdict(card)})


def load_knowledge(directory: Path, label: Label, prior: PriorCard) -> Knowledge:
    """A label that is there; raises `UserError` as `load_prior`, and where it was learned over another prior."""
    folder = label_directory(directory, label)
    inside = folder.relative_to(directory).as_posix()
    repair = f"add {label} again with --force"
    with _told_repair(repair):
        content = _read(directory, f"{inside}/{_KNOWLEDGE_CARD}")
        card = schema.make(KnowledgeCard, content, folder / _KNOWLEDGE_CARD)
        if (card.label, card.prior_sha256) != (label, prior.weights_sha256):
            raise UserError(f"{folder} is {card.label} over the prior of another directory than {directory}")
        knowledge = load_weights(
            storage.own_file(directory, f"{inside}/{_KNOWLEDGE}"),
            lambda: Knowledge(prior.dimension, card.knowledge, frequency=card.frequency),
            sha256=card.weights_sha256,
            layers=card.knowledge.num_steps,
            widths=(prior.dimension, card.knowledge.hidden_dim, card.knowledge.code_dim),
        )
        _check_shuffles(knowledge, folder / _KNOWLEDGE)
    return knowledge


def label_directory(directory: Path, label: Label) -> Path:
    # A name that begins with a dot is that of a directory which is not finished.
    return storage.own_path(directory, f"{_LABELS}/{quote(str(label), safe='= ').replace('.', '%2E')}")


def labels_in(directory: Path) -> list[Label]:
    """The labels that were added, in order of their names."""
    folder = directory / _LABELS
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    return sorted(Label.parse(unquote(name)) for name in names)


def _read(directory: Path, name: str) -> dict[str, Any]:
    content = storage.read_json(path := storage.own_file(directory, name))
    if (found := content.pop("format", None)) != FORMAT:
        raise UserError(f"{path} has TzK format {found}, this version reads {FORMAT}; make it again")
    return content


@contextmanager
def _told_repair(repair: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; {repair}") from None


def _check_shuffles(module: nn.Module, path: Path) -> None:
    for step in module.modules():
        if isinstance(step, Step) and not torch.equal(step.order.sort().values, torch.arange(len(step.order))):
            raise UserError(f"{path} holds a shuffle that leaves dimensions out; it is damaged")
