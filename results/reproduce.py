"""Make a result of this folder again, from the raw corpora: python results/reproduce.py NAME [--seed N]

Run it in the clone's root. It prepares the corpora, trains by the recorded command, evaluates, measures codes, writes
`results/NAME.json` anew, and prints the new metrics beside the recorded ones. With --seed N, the training has another
seed, and the file is `results/NAME_seedN.json`. `reproduce.yaml` has what the recorded files do not say.

An output in `data/` or `runs/NAME` that is complete is not made again. After an interruption, the same command
continues. A training that was stopped before the end of its schedule ends after the same number of epochs.
"""

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from omegaconf import OmegaConf

from eval.compare import run_command
from smim import config, pipeline, storage
from smim.errors import UserError, nearest, refuse
from smim.evaluation import markup
from smim.pipeline import Stage
from smim.training.args import Decides, TrainArgs

RESULTS = Path(__file__).resolve().parent
_DATA = "$SMIM_DATA"
# How a recorded command of an evaluation begins, and how the evaluation is started.
_EVALUATIONS = {"eval/run.py": ["accelerate", "launch", "eval/run.py"], "smim evaluate": ["smim", "evaluate"]}


def main(
    name: Annotated[str, typer.Argument(help="A file of results/, without .json.")] = "",
    seed: Annotated[int | None, typer.Option(help="Another random seed of the training.")] = None,
    data: Annotated[Path | None, typer.Option(help=f"Folder of the published corpora; default: {_DATA}.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands.")] = False,
    list_names: Annotated[bool, typer.Option("--list", help="Only print the names of the results.")] = False,
) -> None:
    """Make a result of results/ again, from the raw corpora."""
    if list_names:
        return print("\n".join(names()))
    recorded, folder = read(name), str(data or os.environ.get("SMIM_DATA", _DATA))
    planned = stages(name, seed, folder)
    if dry_run:
        return print("\n".join(f"# {stage.name}: {state}\n{stage.shown}" for stage, state in pipeline.states(planned)))
    refuse([*missing(planned, folder), *differences(planned)])
    new = renamed(name, seed)
    pipeline.run(planned, Path(f"runs/{new}_steps"))
    remade = _portable(storage.read_json(planned[-1].output), folder)
    storage.write_json(RESULTS / f"{new}.json", remade)
    print(f"{compared(recorded, remade)}\n\nwritten to results/{new}.json")


def names() -> list[str]:
    """The names of all results."""
    return sorted(path.stem for path in RESULTS.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    """Read a recorded result. Raises `UserError` if there is none of this name."""
    if name not in names():
        raise UserError(f"results/ has no {name!r}; {nearest(name, names())}")
    return storage.read_json(RESULTS / f"{name}.json")


def renamed(name: str, seed: int | None) -> str:
    """Name the result of a training with another seed."""
    return name if seed is None else f"{re.sub(r'_seed[0-9]+$', '', name)}_seed{seed}"


def known() -> dict[str, dict[str, Any]]:
    """The content of `reproduce.yaml`."""
    return OmegaConf.to_container(OmegaConf.load(RESULTS / "reproduce.yaml"))  # type: ignore[return-value]


def stages(name: str, seed: int | None, data: str) -> list[Stage]:
    """Plan the steps of a result, in their order. `data`: the folder of the published corpora.

    Raises `UserError` if there is no such result, or if `reproduce.yaml` lacks a corpus that it needs.
    """
    recorded, run, corpora = read(name), Path("runs") / renamed(name, seed), known()["corpora"]
    train = _training(recorded, seed, run)
    jobs = [("train", run, [*train, "train.resume=auto"])]
    jobs += [(f"evaluate {each}", run / each, _evaluation(recorded, each, run)) for each in recorded["reports"]]
    jobs += [("codes", run / "codes.json", words) for words in _codes(recorded, run)]
    used = [config.compose("train", _settings(train)).corpus.dir]
    used += [each for each in corpora if any(each in _values(words) for _, _, words in jobs)]
    if unknown := [each for each in used if each not in corpora]:
        raise UserError(f"results/reproduce.yaml has no corpus {unknown[0]}, which {name} needs; add it there")
    keep = ["python", "eval/record.py", str(run), "-o", str(run / "record.json"), "--command", shlex.join(train)]
    # Other notes than this one, which is about the corpus, are about one training.
    keep += ["--note", recorded["note"]] if (recorded["note"] or "").startswith("a stand-in") else []
    planned = [
        *((f"prepare {each}", Path(each), _preparation(each, corpora[each])) for each in dict.fromkeys(used)),
        *jobs,
        ("record", run / "record.json", keep),
    ]
    before = [title for title, _, _ in planned]
    return [
        Stage(title, output, [_program(words[0]), *(word.replace(_DATA, data) for word in words[1:])], (*before[:i],))
        for i, (title, output, words) in enumerate(planned)
    ]


def missing(planned: list[Stage], data: str) -> list[str]:
    """Say which inputs of the steps that would run are missing, and how to get them."""
    by_hand, problems = known()["by_hand"], {}
    made = {str(stage.output) for stage in planned}
    for stage in pipeline.to_run(planned):
        for value in _values(stage.command):
            if value in by_hand and not Path(value).exists():
                problems[value] = f"{stage.name} needs {value}, which {by_hand[value]} says how to make"
            elif value.startswith(f"{data}/") and value not in made and not Path(value).exists():
                problems[value] = f"{stage.name} needs {value}; set SMIM_DATA or --data to the folder of the corpora"
    return list(problems.values())


def differences(planned: list[Stage]) -> list[str]:
    """Say in which settings a training that is in the run's directory is not the planned one."""
    [train] = [stage for stage in planned if stage.name == "train"]
    if not (train.output / "config.yaml").is_file():
        return []
    here, there = config.compose("train", _settings(train.command)), OmegaConf.load(train.output / "config.yaml")
    args = config.make(TrainArgs, here.train, "train")
    names = [f"{part}.{name}" for part in ("model", "objective", "train") for name in here[part]]
    changed = {name: OmegaConf.select(there, name) for name in names}
    wrong = [
        f"{name}={value}"
        for name, value in changed.items()
        if value != OmegaConf.select(here, name) and args.decides(name.removeprefix("train.")) is not Decides.NOTHING
    ]
    return [f"{train.output} has another training, with {', '.join(wrong)}; rename it"] if wrong else []


def compared(recorded: dict[str, Any], remade: dict[str, Any]) -> str:
    """Make a table of the metrics of both, and of their difference in standard errors.

    The errors are over sentences. Both models read the same sentences, so the error of the difference is an upper one.
    """
    rows = []
    for title, report in recorded["reports"].items():
        for metric, old in report["metrics"].items():
            if new := remade["reports"].get(title, {"metrics": {}})["metrics"].get(metric):
                errors = [each.get("standard_error") for each in (old, new)]
                error = math.hypot(*(each or 0.0 for each in errors))
                shown = [markup.with_error(each["value"], err) for each, err in zip((old, new), errors, strict=True)]
                by = f"{(new['value'] - old['value']) / error:+.1f}" if error else ""
                rows.append([title, metric, *shown, by])
    return markup.table(["report", "metric", "recorded", "made again", "difference / error"], rows)


def _portable(remade: dict[str, Any], data: str) -> dict[str, Any]:
    """The record without the place of the published corpora, which its commands name."""
    return json.loads(json.dumps(remade).replace(f"{data}/", f"{_DATA}/"))


def _preparation(corpus: str, settings: list[str]) -> list[str]:
    return ["python", "data_prep/build.py", *settings, f"output={corpus}"]


def _training(recorded: dict[str, Any], seed: int | None, run: Path) -> list[str]:
    """The recorded command with this run's directory, its seed, and the epochs that a stopped training completed."""
    changed: dict[str, Any] = {"run.dir": run} | ({} if seed is None else {"train.seed": seed})
    settings, completed = recorded["settings"]["train"], len(recorded["validations"])
    if settings["max_steps"] is None and completed < settings["max_epochs"]:
        changed["train.max_epochs"] = completed
    kept = [word for word in shlex.split(recorded["command"]) if word.partition("=")[0] not in changed]
    return [*kept, *(f"{key}={value}" for key, value in changed.items())]


def _evaluation(recorded: dict[str, Any], report: str, run: Path) -> list[str]:
    first, *settings = shlex.split(recorded["reports"][report]["command"])
    given = dict(setting.split("=", 1) for setting in settings)
    given |= {"model.dir": f"{run}/model", "corpus.dir": f"data/{Path(given['corpus.dir']).name}"}
    return [*_EVALUATIONS[first], *(f"{key}={value}" for key, value in (given | {"output": f"{run}/{report}"}).items())]


def _codes(recorded: dict[str, Any], run: Path) -> Iterator[list[str]]:
    for metric, (benchmark, *options) in known()["codes"].items():
        if metric in (recorded["codes"] or {}):
            yield ["python", benchmark, f"{run}/model", *options, "-o", f"{run}/codes.json"]


def _settings(words: list[str]) -> list[str]:
    """The settings of a command of a training."""
    return [word for word in words if "=" in word]


def _values(words: list[str]) -> list[str]:
    """The values of settings and options, such as paths, and the items of lists."""
    return [value for word in words for value in re.split(r"[=,\[\]]", word)]


def _program(name: str) -> str:
    return sys.executable if name == "python" else str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    run_command(main)
