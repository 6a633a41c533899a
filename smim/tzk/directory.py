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

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from smim import storage
from smim.errors import UserError
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
    with _as_written(path):
        content = _read(path)
        card = PriorCard(**{**content, "prior": PriorArgs(**content["prior"])})
        prior = CodePrior(card.dimension, card.prior)
    _load(prior, directory / PRIOR, card.weights_sha256, repair="fit it again")
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
    path, repair = folder / _KNOWLEDGE_CARD, f"add {label} again with --force"
    with _as_written(path):
        content = _read(path)
        described = {"label": Label(**content["label"]), "knowledge": KnowledgeArgs(**content["knowledge"])}
        card = KnowledgeCard(**{**content, **described})
        knowledge = Knowledge(prior.dimension, card.knowledge, frequency=card.frequency)
    if (card.label, card.prior_sha256) != (label, prior.weights_sha256):
        raise UserError(f"{folder} is {card.label} over the prior of another directory than {directory}; {repair}")
    _load(knowledge, folder / _KNOWLEDGE, card.weights_sha256, repair=repair)
    return knowledge


def label_directory(directory: Path, label: Label) -> Path:
    # A name that begins with a dot is that of a directory which is not finished.
    return directory / _LABELS / quote(str(label), safe="= ").replace(".", "%2E")


def labels_in(directory: Path) -> list[Label]:
    """The labels that were added, in order of their names."""
    folder = directory / _LABELS
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    return sorted(Label.parse(unquote(name)) for name in names)


def _read(path: Path) -> dict[str, Any]:
    content = storage.read_json(path)
    if (found := content.pop("format", None)) != FORMAT:
        raise UserError(f"{path} has TzK format {found}, this version reads {FORMAT}; make it again")
    return content


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, RuntimeError):
        raise UserError(f"{path} is not as it was written; it was edited or damaged") from None


def _load(module: nn.Module, path: Path, sha256: str, *, repair: str) -> None:
    try:
        if storage.sha256(path) != sha256:
            raise UserError(f"{path} is not the file that was written beside it, it is damaged; {repair}")
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} is missing or damaged: {error}; {repair}") from None
    module.eval()
