"""Record the results of a training in one small file for `results/`.

    python eval/record.py runs/ptb_smim_512 --command 'accelerate launch smim/train.py experiment=ptb_smim_512' \
        -o results/ptb_smim_512.json

The file has each `report*/report.json` beside the model, the output of `benchmarks/codes.py RUN/model -o
RUN/codes.json` (or of `benchmarks/answering.py`), and data of the training: command and commit as given, machine, seed,
settings, epochs, steps, seconds, all validations.
"""

import json
import platform
import subprocess
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from omegaconf import OmegaConf

from eval.compare import read_report, run_command
from smim import storage
from smim.errors import UserError
from smim.model.directory import read_config

_KEPT = ("model", "objective", "train")


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A training's run.dir.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    command: Annotated[str, typer.Option(help="The command that started the training.")],
    commit: Annotated[str | None, typer.Option(help="Commit of the training code; default: this clone's.")] = None,
    note: Annotated[str | None, typer.Option(help="A note for readers, such as where training stopped.")] = None,
) -> None:
    """Record the results of a training in one small file for results/."""
    storage.write_json(output, record(run, command, commit or _commit(), note))


def record(run: Path, command: str, commit: str, note: str | None = None) -> dict[str, Any]:
    """Make the content of the file. Raises `UserError` if `run` contains no trained model or no metrics."""
    if not (run / "metrics.jsonl").is_file():
        raise UserError(f"{run} has no metrics.jsonl; give the run.dir of a training")
    model = read_config(run / "model")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train"]
    settings = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    assert isinstance(settings, dict)
    codes = run / "codes.json"
    return {
        "command": command,
        "commit": commit,
        "machine": machine(),
        "note": note,
        "corpus": model["training"]["corpus"],
        "parameters": model["num_parameters"],
        "seed": settings["train"]["seed"],
        "epochs": max(line["epoch"] for line in lines),
        "steps": max(line["step"] for line in lines),
        "seconds_of_training": round(sum(line["seconds"] for line in trained), 1),
        "best": {key: model["training"][key] for key in ("epoch", "step", "valid_loss")},
        "settings": {name: settings[name] for name in _KEPT},
        "validations": [line for line in lines if line["split"] == "valid"],
        "reports": {path.parent.name: _metrics(path) for path in sorted(run.glob("report*/report.json"))},
        "codes": next(iter(storage.read_json(codes).values())) if codes.is_file() else None,
    }


def machine() -> str:
    """The processor (its name in `/proc/cpuinfo`, if that exists), the cores, and the GPUs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([names[0] if names else platform.processor(), f"{len(names)} cores", *gpus, platform.system()])


def _metrics(path: Path) -> dict[str, Any]:
    report, kept = read_report(path), ("value", "standard_error", "n")
    return {
        "command": report["environment"]["command"],
        "corpus": report["corpus"]["name"],
        "sentences": report["corpus"]["sentences"],
        "metrics": {
            name: {key: metric[key] for key in kept if key in metric} for name, metric in report["metrics"].items()
        },
    }


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    run_command(main)
