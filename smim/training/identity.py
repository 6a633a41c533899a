"""What decides a run's losses, its identity: a checkpoint is gone on from only with the same.

    {"corpus.input": HASH, "corpus.train": HASH, "objective.name": "amim", "model.latent_dim": 16, "train.seed": 1}

Of the settings of model, objective and training it holds those that are not the defaults: a new setting, which has a
default, is no other run.
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
    """The identity by dotted names. `settings`: the dataclasses of `model`, `objective` and `train`.

    `input_hash` is that of the corpus's tokenizer, or of what its vectors mean; `train_hash` that of its split;
    `teacher_hash` that of the teacher's vectors of it, if there are any.
    """
    changed = {f"{part}.{name}": value for part, own in settings.items() for name, value in schema.changed(own).items()}
    name = settings["objective"].name
    teacher = {"corpus.teacher": teacher_hash} if teacher_hash else {}
    return {"corpus.input": input_hash, "corpus.train": train_hash, **teacher, "objective.name": name, **changed}


def check_identity(path: Path, identity: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """What differs between a checkpoint's run and this one, each in words; raises `UserError` where it may not.

    Model, objective and data may never differ. Settings of the training may where a checkpoint is named, and those
    of the run's length in any case. Those that decide nothing are left out (`Decides`).
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
        raise UserError(f"checkpoint {path} belongs to another run ({changes}); use another run.dir")
    return different


def _default(own: Any, name: str, there: dict[str, Any]) -> Any:
    """What a setting is in the run of a checkpoint that does not hold it; an encoder's is that of the kind it had."""
    part, _, setting = name.rpartition(".")
    their_kind = there.get(f"model.{part}.name", "")
    if kind := PARTS.get(part, {}).get(their_kind):
        return _value(kind(name=their_kind), setting)
    return _value(type(own)(), name)


def _value(settings: Any, name: str) -> Any:
    """What a setting is where it is not stored; `name` may be one that only other settings have."""
    try:
        return attrgetter(name)(settings)
    except AttributeError:
        return "unset"


def _read_identity(path: Path) -> dict[str, Any]:
    """The identity that a checkpoint holds. Before there were dotted names of all parts, it held every setting."""
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
