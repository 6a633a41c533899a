"""The identity of a run: everything that decides its losses. A run resumes only from a checkpoint with the same one.

    {"corpus.input": HASH, "corpus.train": HASH, "objective.name": "amim", "model.latent_dim": 16, "train.seed": 1}

It contains only settings of model, objective and training that differ from the defaults. So a new setting with a
default does not change the identity.
"""

from operator import attrgetter
from pathlib import Path
from typing import Any

from smim import schema
from smim.errors import UserError
from smim.model.registry import PARTS, read_args
from smim.objectives import objective_class
from smim.training import checkpoint
from smim.training.args import Decides, TrainArgs


def make_identity(
    input_hash: str, train_hash: str, settings: dict[str, Any], teacher_hash: str | None = None
) -> dict[str, Any]:
    """Make the identity, by dotted names. `settings`: the dataclasses of `model`, `objective` and `train`.

    `input_hash`: the hash of the corpus's tokenizer, or of the meaning of its vectors. `train_hash`: the hash of its
    training split. `teacher_hash`: the hash of the teacher's vectors, if any.
    """
    changed = {f"{part}.{name}": value for part, own in settings.items() for name, value in schema.changed(own).items()}
    name = settings["objective"].name
    teacher = {"corpus.teacher": teacher_hash} if teacher_hash else {}
    return {"corpus.input": input_hash, "corpus.train": train_hash, **teacher, "objective.name": name, **changed}


def check_identity(path: Path, identity: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """Describe each difference between a checkpoint's run and this one. Raises `UserError` for forbidden ones.

    Model, objective and data must not differ. Training settings may differ if `resume` names the checkpoint, and
    settings of the run's length always. Settings that decide nothing are left out (see `Decides`).
    """
    there, train = _read_identity(path), settings["train"]
    different: dict[str, str] = {}
    lengths = set()
    for key in {**there, **identity}:
        part, _, name = key.partition(".")
        theirs = there[key] if key in there else _default(settings.get(part), name, there)
        ours = identity[key] if key in identity else _value(settings.get(part), name)
        decides = train.decides(name) if part == "train" else Decides.LOSSES
        if theirs != ours and decides is not Decides.NOTHING:
            different[key] = f"{key}: {theirs} there, {ours} here"
            lengths |= {key} if decides is Decides.LENGTH else set()
    may_differ = () if train.resume == "auto" else ("train.",)
    others = [key for key in different if key not in lengths]
    if not all(key.startswith(may_differ) for key in others):
        changes = "; ".join(different[key] for key in others)
        raise UserError(f"checkpoint {path} belongs to another run ({changes}); use its settings, or another run.dir")
    return different


def _default(own: Any, name: str, there: dict[str, Any]) -> Any:
    """The value of a setting that a checkpoint does not contain: the default of the kind of part in that run."""
    part, _, setting = name.rpartition(".")
    their_kind = there.get(f"model.{part}.name", "")
    if kind := PARTS.get(part, {}).get(their_kind):
        return _value(kind(name=their_kind), setting)
    return _value(type(own)(), name)


def _value(settings: Any, name: str) -> Any:
    """The value of a setting, or "unset" if these settings have no such name."""
    try:
        return attrgetter(name)(settings)
    except AttributeError:
        return "unset"


def _read_identity(path: Path) -> dict[str, Any]:
    """Read the identity of a checkpoint. Older ones contain all settings, without dotted names for all parts."""
    stored, where = checkpoint.read_state(path)["identity"], path / "state.json"
    if "corpus.train" in stored:
        return stored
    with checkpoint.fitting(path):
        train = {key.removeprefix("train."): value for key, value in stored.items() if key.startswith("train.")}
        settings = {
            "model": read_args(stored["model"], where),
            "objective": schema.make(objective_class(stored["objective"]["name"]), stored["objective"], where),
            "train": schema.make(TrainArgs, train, where),
        }
        return make_identity(stored["tokenizer"], stored["train"], settings)
