"""All jobs from text to an index, as one command that continues after an interruption.

    smim pipeline CONFIG

CONFIG is a YAML file with the fields of `PipelineArgs`. The stages are prepare, train, encode, index and report. Each
is the command of that name, in a process of its own, which returns its memory at the end.

OUTPUT/
    prepare-HASH/ train-HASH/ encode-HASH/ index-HASH/ report-HASH.json
    stages.jsonl    a line for each stage that ran: time, peak memory, bytes on disk

The hash is that of the stage's settings and of its inputs' hashes. A job renames its finished output into place, so an
output that exists is complete, and its stage is skipped. A stage runs only if its output is missing and asked for, or
if another stage that runs needs it. So inputs may be removed when an output is complete.
"""

import ctypes
import glob
import json
import re
import resource
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from smim import __version__, config, lock, storage
from smim.engine import EngineArgs
from smim.errors import SmimError, UserError, refuse
from smim.progress import console

STAGES = ("prepare", "train", "encode", "index", "report")
LOG = "stages.jsonl"

# What the pipeline gives to a command itself.
_OWN = {
    "prepare": ("output", "prep", "corpus.dir"),
    "train": ("run.dir", "corpus.dir", "train.resume"),
}
# Settings that name files, which are part of a stage's input.
_FILES = {"path", "splits", "without", "teacher", "dir", "init"}
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_./][\w./-]*", re.IGNORECASE)
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_SECONDS_BETWEEN_LOOKS, _LOOKS_BETWEEN_SIZES = 0.25, 20


@dataclass(frozen=True)
class EncodeSettings:
    """`smim encode`: its settings `encode.*`, except those of the engine."""

    dtype: str = "fp16"
    log_variance: bool = False
    rows_per_shard: int = 65_536
    too_long: str = "truncate"


@dataclass(frozen=True)
class IndexSettings:
    """`smim index build`: its options."""

    metric: str | None = None
    part: str | None = None
    factory: str = "auto"
    store: str = "fp16"
    segments: int = 1
    memory: float | None = None
    gpu: bool = False


@dataclass(frozen=True)
class ReportSettings:
    """`smim index report`: its options."""

    k: int = 10
    queries: int = 200
    recall: float = 0.95


@dataclass(frozen=True)
class PipelineArgs:
    """The content of CONFIG.

    `output`: the directory of all outputs. `prepare` and `train`: settings of `smim prepare` and `smim train`, nested
    or by their whole names (`corpus.path`). `model`: a trained model to use; there is then no stage train, and the
    corpus gets the model's tokenizer. `split`: the split to encode and index.
    """

    output: str
    prepare: dict[str, Any]
    model: str | None = None
    split: str = "train"
    train: dict[str, Any] = field(default_factory=dict)
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    index: IndexSettings = field(default_factory=IndexSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    @classmethod
    def read(cls, path: Path) -> "PipelineArgs":
        """Read CONFIG. Raises `UserError` that names each wrong setting of the pipeline, of prepare and of train."""
        try:
            content = OmegaConf.load(path)
        except (YAMLError, OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None
        if not isinstance(content, DictConfig):
            raise UserError(f"{path} is not a dictionary; begin it with `output: DIR`")
        args = config.make(cls, content, "pipeline")
        own = [
            f"{stage}.{key}={value}: the pipeline gives {key} itself; leave it out"
            for stage, names in _OWN.items()
            for key, value in _flat(getattr(args, stage)).items()
            if any(key == name or key.startswith(f"{name}.") for name in names)
        ]
        own += [f"model is {args.model}, so there is no training; leave out train"] * bool(args.model and args.train)
        refuse(own)
        config.compose("build", _overrides(args.prepare))
        config.compose("train", _overrides(args.train))
        return args


@dataclass(frozen=True)
class Stage:
    """A command that makes `output`. `inputs`: the names of the stages whose outputs it reads."""

    name: str
    output: Path
    command: list[str]
    inputs: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        if self.name == "train":
            status = self.output / "status.json"
            return status.is_file() and storage.read_json(status)["status"] == "finished"
        return self.output.exists()

    @property
    def is_begun(self) -> bool:
        return self.output.exists() or (self.output.parent / f".{self.output.name}.work").exists()

    @property
    def shown(self) -> str:
        program, *rest = self.command
        return shlex.join(["python" if program == sys.executable else Path(program).name, *rest])


def stages(args: PipelineArgs, engine: EngineArgs) -> list[Stage]:
    """The stages of a pipeline, in their order, with their commands and outputs."""
    hashes: dict[str, str] = {}
    needs: dict[str, tuple[str, ...]] = {}

    def output(name: str, settings: Mapping[str, Any], *inputs: str) -> Path:
        hashed = {"version": __version__, "settings": settings, "files": _files(settings)}
        hashes[name] = storage.sha256_of_json({**hashed, "inputs": [hashes[each] for each in inputs]})[:12]
        needs[name] = inputs
        return Path(args.output) / f"{name}-{hashes[name]}{'.json' if name == 'report' else ''}"

    prepared = {**_flat(args.prepare), **({"corpus.tokenizer.dir": args.model} if args.model else {})}
    trained, encoded = _flat(args.train), {"split": args.split, **asdict(args.encode)}
    indexed, reported = asdict(args.index), asdict(args.report)
    outputs = {"prepare": output("prepare", prepared)}
    if args.model is None:
        outputs["train"] = output("train", trained, "prepare")
    of_model = ("train",) if args.model is None else ()
    outputs["encode"] = output("encode", {**encoded, "dir": args.model}, *of_model, "prepare")
    outputs["index"] = output("index", indexed, *of_model, "prepare", "encode")
    outputs["report"] = output("report", reported, "index")

    at = {name: str(path) for name, path in outputs.items()}
    model = args.model or str(outputs["train"] / "model")
    given = {"workers": engine.workers, "address": engine.address}
    is_ray, processes = engine.engine == "ray", engine.workers or 1
    where = [f"engine={engine.engine}", *(f"{name}={value}" for name, value in given.items() if value is not None)]
    beside = {"engine": engine.engine, "workers": engine.workers, "ray-address": engine.address}
    smim, of_corpus = [sys.executable, "-m", "smim"], {"corpus.dir": at["prepare"]}
    to_train = {**trained, **of_corpus, "run.dir": at.get("train"), "train.resume": "auto"}
    to_encode = _overrides({"model.dir": model, **of_corpus, "output": at["encode"]})
    commands = {
        "prepare": [*smim, "prepare", *_overrides({**prepared, "output": at["prepare"]}), *_in("prep", where)],
        "train": [*smim, "train", *_overrides(to_train)],
        "encode": [sys.executable, "-m", "smim.search.encode", *to_encode, *_in("encode", _overrides(encoded))],
        "index": [*smim, "index", "build", model, at["prepare"], "-o", at["index"], "--latents", at["encode"]],
        "report": [*smim, "index", "report", at["index"], "--json", "-k", str(args.report.k)],
    }
    commands["encode"] += _in("encode", where)
    commands["index"] += ["--split", args.split, *_options(indexed)]
    commands["index"] += _options(beside) if is_ray or min(processes, args.index.segments) > 1 else []
    commands["report"] += ["--queries", str(args.report.queries), "--recall", str(args.report.recall)]
    return [Stage(name, path, commands[name], needs[name]) for name, path in outputs.items()]


def to_run(planned: Sequence[Stage]) -> list[Stage]:
    """The stages to run for the output of the last one: it, and what it needs, as far as outputs are missing."""
    wanted = {planned[-1].name}
    chosen = []
    for stage in reversed(planned):
        if stage.name in wanted and not stage.is_done:
            wanted.update(stage.inputs)
            chosen.append(stage)
    return chosen[::-1]


def states(planned: Sequence[Stage]) -> list[tuple[Stage, str]]:
    """Each stage, and whether it is done, would run or continue, or is not needed, as its output was removed."""
    runs = to_run(planned)

    def state(stage: Stage) -> str:
        if stage not in runs:
            return "done" if stage.is_done else "not needed"
        return "continues" if stage.is_begun else "runs"

    return [(stage, state(stage)) for stage in planned]


def until(planned: Sequence[Stage], name: str | None) -> list[Stage]:
    """The stages up to one. Raises `UserError` for an unknown name."""
    names = [stage.name for stage in planned]
    if name is None:
        return list(planned)
    if name not in names:
        raise UserError(f"--until {name}: there is no such stage here; valid: {', '.join(names)}")
    return list(planned[: names.index(name) + 1])


def run(planned: Sequence[Stage], output: Path, *, workers: int | None = None, free_inputs: bool = False) -> None:
    """Run the stages that are missing, and write a line about each to `stages.jsonl`.

    SIGTERM and Ctrl-C end the stage's command, which keeps its work, and then the pipeline. `free_inputs`: when the
    index is complete, read it whole, compare it with its checksums, and remove corpus, latents and checkpoints.
    `workers` is for `stages.jsonl`.

    Raises `Stopped` if a stage fails, and `UserError` if another process works in `output`.
    """
    output.mkdir(parents=True, exist_ok=True)
    with lock.own(output):
        for stage in to_run(planned):
            console.print(f"{stage.name}: {stage.shown}", soft_wrap=True)
            measured = _run(stage, output)
            with (output / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps({**measured, "workers": workers, "command": stage.shown}) + "\n")
            if measured["status"]:
                raise Stopped(stage.name, measured["status"])
            console.print(
                f"{stage.name}: done in {measured['seconds']:,.0f} s with {measured['peak_memory'] / 1e9:.2f} GB of "
                f"memory, {measured['bytes'] / 1e6:,.1f} MB in {stage.output}",
                soft_wrap=True,
            )
        if free_inputs:
            _free({stage.name: stage for stage in planned})
        index = next((stage.output for stage in planned if stage.name == "index"), None)
        shown = f'`smim search {index} "a sentence"` searches the index' if index else str(planned[-1].output)
        console.print(f"all stages are complete; {shown}", soft_wrap=True)


class Stopped(SmimError):
    """A stage's command ended before its work was done. The pipeline ends with the same exit status."""

    def __init__(self, stage: str, status: int) -> None:
        # A process that a signal has ended has the negative number of the signal.
        self.exit_status = status if status > 0 else 128 - status
        super().__init__(
            f"{stage} ended with exit status {self.exit_status}, and its own message is above; "
            "the same command continues from there"
        )


def memory(pid: int | None = None) -> int:
    """Measure the private memory of a process (default: this one) and its children, in bytes, without mapped files."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                info = each.memory_info()
                total += info.rss - info.shared
    return total


def _run(stage: Stage, output: Path) -> dict[str, Any]:
    """Run a stage's command to its end, and measure it."""
    started, cpu_before, peak_memory, peak_disk = time.monotonic(), _cpu_seconds(), 0, 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        stdout = printed if stage.name == "report" else None
        process = subprocess.Popen(stage.command, stdout=stdout, preexec_fn=_end_with_parent)
        # Ctrl-C in a terminal reaches the command by itself.
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number)),
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        }
        looks = 0
        while process.poll() is None:
            peak_memory = max(peak_memory, memory(process.pid))
            if looks % _LOOKS_BETWEEN_SIZES == 0:
                peak_disk = max(peak_disk, _size(output))
            looks += 1
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_BETWEEN_LOOKS)
        for number, handler in before.items():
            signal.signal(number, handler)
        if stdout and not process.returncode:
            printed.seek(0)
            storage.write_text(stage.output, printed.read())
    return {
        "stage": stage.name,
        "output": stage.output.name,
        "status": process.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(_cpu_seconds() - cpu_before, 1),
        "peak_memory": peak_memory,
        "bytes": _size(stage.output),
        "peak_disk": max(peak_disk, _size(output)),
    }


def _cpu_seconds() -> float:
    """The CPU time of the processes that this one, or one of them, has waited for: those of a stage on this machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end_with_parent() -> None:
    """Let the command get SIGTERM if the pipeline is killed, so that the next run finds no other job at work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)


def _free(planned: Mapping[str, Stage]) -> None:
    """Remove corpus, latents and checkpoints, if the index is complete and has its checksums."""
    index = planned.get("index")
    inputs = [planned[name].output for name in ("encode", "prepare") if name in planned]
    inputs += [planned["train"].output / "checkpoints"] if "train" in planned else []
    left = [each for each in inputs if each.exists()]
    if index is None or not index.is_done or not left:
        return
    if subprocess.run([sys.executable, "-m", "smim", "index", "verify", str(index.output)]).returncode:
        raise SmimError(f"{index.output} does not have its checksums, so its inputs are kept; remove it and run again")
    for each in left:
        storage.remove_directory(each)


def _size(path: Path) -> int:
    """Measure the bytes of a file, or of all files in a directory; files may vanish meanwhile."""
    total = 0
    for each in [path, *path.rglob("*")]:
        with suppress(FileNotFoundError):
            state = each.lstat()
            total += state.st_size if stat.S_ISREG(state.st_mode) else 0
    return total


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their whole names, such as `corpus.path`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as Hydra's KEY=VALUE."""
    return [f"{name}={_as_value(value)}" for name, value in _flat(settings).items()]


def _in(section: str, settings: Iterable[str]) -> list[str]:
    return [f"{section}.{each}" for each in settings]


def _as_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_value, value))}]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else "'{}'".format(value.replace("'", "\\'"))
    return json.dumps(value)


def _options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of a command; None and False are left out."""
    options: list[str] = []
    for name, value in settings.items():
        if value is not None and value is not False:
            options += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return options


def _files(settings: Mapping[str, Any]) -> dict[str, list[int]]:
    """Size and time of the files that settings name, which reveal changes."""
    found = {}
    for name, value in settings.items():
        if not _FILES.isdisjoint(name.split(".")):
            given = value if isinstance(value, list) else [value]
            paths = [Path(path) for text in given if text for path in glob.glob(str(text))]
            for file in sorted(each for path in paths for each in [path, *path.rglob("*")] if each.is_file()):
                found[str(file)] = [file.stat().st_size, file.stat().st_mtime_ns]
    return found
