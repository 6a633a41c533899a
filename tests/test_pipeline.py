"""One command from text to a measured index: what it plans, what it skips, and what is left after a kill."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_prep.corpora.many import Many
from smim import pipeline, storage
from smim.engine import EngineArgs
from smim.errors import UserError
from smim.text.corpus import Corpus
from tests.commands import Command, make_command

CONFIG: dict[str, Any] = {
    "output": "out, 1",
    "prepare": {"corpus": {"path": "text", "deduplicate": True}, "corpus.tokenizer.splitter": "whitespace"},
    "train": {
        "model": {"latent_dim": 16, "hidden_dim": 32, "embedding_dim": 16},
        "train": {"max_steps": 40, "checkpoint_every": 4, "log_every": 4, "trackers": []},
    },
    "encode": {"rows_per_shard": 200},
    "index": {"factory": "IVF16,PQ8x4", "segments": 2},
    "report": {"queries": 50},
}


# A name that Hydra must get in quotes.
OUT = Path(CONFIG["output"])


@pytest.fixture
def smim_pipeline(monkeypatch, capsys, tmp_path) -> Command:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path, 300)
    return make_command(monkeypatch, capsys, "pipeline")


def write_text(folder: Path, sentences: int) -> None:
    (folder / "text").mkdir()
    Many().write(folder / "text", range(sentences))


def write_config(**changes: Any) -> Path:
    """A configuration in the current directory; JSON is YAML."""
    path = Path("config.yaml")
    path.write_text(json.dumps({name: value for name, value in (CONFIG | changes).items() if value is not None}))
    return path


def outputs(engine: EngineArgs | None = None, **changes: Any) -> dict[str, str]:
    args = pipeline.PipelineArgs.read(write_config(**changes))
    return {stage.name: stage.output.name for stage in pipeline.stages(args, engine or EngineArgs())}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"prepare": CONFIG["prepare"] | {"corpus.seed": 1}}, []),
        ({"train": {}}, ["prepare"]),
        ({"encode": {"dtype": "fp32"}}, ["prepare", "train"]),
        ({"index": {"factory": "Flat"}}, ["prepare", "train", "encode"]),
        ({"report": {"k": 5}}, ["prepare", "train", "encode", "index"]),
        ({"split": "valid"}, ["prepare", "train"]),
    ],
)
def test_a_setting_renames_the_outputs_that_depend_on_it(smim_pipeline, changes, same):
    before, after = outputs(), outputs(**changes)
    assert [name for name in before if before[name] == after[name]] == same


def test_the_text_names_the_outputs_and_the_engine_does_not(smim_pipeline):
    before = outputs()
    assert outputs(EngineArgs("ray", 8, "10.0.0.1:6379")) == outputs(EngineArgs(workers=3)) == before
    (Path("text") / "more.txt").write_text("one more sentence\n")
    assert not set(outputs().values()) & set(before.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prepar": {}}, "unknown key pipeline.prepar; did you mean 'prepare'?"),
        ({"index": {"fctory": "Flat"}}, "unknown key pipeline.index.fctory; did you mean 'factory'?"),
        ({"output": None}, "pipeline.output is missing"),
        ({"prepare": {"corpus.pth": "text"}}, "unknown key corpus.pth; did you mean 'corpus.path'?"),
        ({"train": {"train": {"max_step": 3}}}, "unknown key train.max_step; did you mean 'train.max_steps'?"),
        ({"train": {"run.dir": "x"}}, "train.run.dir=x: the pipeline gives run.dir itself; leave it out"),
        ({"model": "english-small"}, "model is english-small, so there is no training; leave out train"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_runs(smim_pipeline, changes, message):
    outcome = smim_pipeline(write_config(**changes))
    assert outcome.status == 2 and message in outcome.err, outcome.err
    assert not OUT.exists()


@pytest.mark.parametrize("content", ["a: [", "- a", "\x00"])
def test_a_file_that_is_not_a_dictionary_is_refused(smim_pipeline, content):
    Path("config.yaml").write_text(content)
    assert smim_pipeline("config.yaml").status == 2
    assert smim_pipeline("none.yaml").status == 2


def test_an_unknown_stage_is_refused(smim_pipeline):
    outcome = smim_pipeline(write_config(), "--until", "serve")
    assert outcome.status == 2 and "valid: prepare, train, encode, index, report" in outcome.err


def test_values_reach_hydra_as_they_were(smim_pipeline):
    prepared = {"corpus": {"path": ["a b/text", "it's, [odd]=1"], "name": "true"}, "corpus.valid": 0.1}
    with pytest.raises(UserError, match="leave it out"):
        outputs(prepare=prepared | {"prep": {"workers": 2}})
    from smim import config

    composed = config.compose("build", pipeline._overrides(prepared))
    assert composed.corpus.path == ["a b/text", "it's, [odd]=1"]
    assert composed.corpus.name == "true" and composed.corpus.valid == 0.1


def test_a_dry_run_prints_the_stages_and_makes_nothing(smim_pipeline):
    outcome = smim_pipeline(write_config(), "--dry-run", "--workers", 2)
    lines = outcome.out.splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [[name, "runs"] for name in pipeline.STAGES]
    assert "corpus.path=text" in lines[1] and "encode.workers=2" in lines[5] and "--workers 2" in lines[7]
    assert not OUT.exists()


def test_a_model_runs_to_a_report_and_what_is_done_is_skipped(smim_pipeline, tiny_model, tiny_corpus):
    Path("tiny.txt").write_text("\n".join(Corpus.open(tiny_corpus).split("train").texts()))
    prepared = {"corpus": {"path": "tiny.txt", "valid": 0.2, "test": 0.2}}
    config = write_config(model=str(tiny_model), train=None, index={}, prepare=prepared)
    ran = smim_pipeline(config, "--until", "index")
    assert ran.status == 0, ran.err
    assert [line["stage"] for line in log()] == ["prepare", "encode", "index"]
    assert all(line["seconds"] > 0 and line["peak_memory"] > 1e6 and line["bytes"] > 0 for line in log())
    done = smim_pipeline(config, "--free-inputs")
    assert done.status == 0 and [line["stage"] for line in log()][3:] == ["report"], done.err
    [report] = OUT.glob("report-*.json")
    assert json.loads(report.read_text())["current"]["recall"] == 1
    # The inputs of the index are gone, and no stage needs them.
    assert [path.name.split("-")[0] for path in sorted(OUT.iterdir()) if path.name[0] != "."] == [
        *("index", "report", pipeline.LOG)
    ]
    assert smim_pipeline(config).status == 0 and len(log()) == 4
    # Only its own output is missing, and the index is there.
    report.unlink()
    states = [line.split()[1] for line in smim_pipeline(config, "--dry-run").out.splitlines()[::2]]
    assert states == ["not", "not", "done", "runs"]


def test_a_stage_that_fails_ends_the_pipeline_with_its_status(smim_pipeline):
    Path("empty.txt").write_text("")
    outcome = smim_pipeline(write_config(prepare={"corpus.path": "empty.txt"}))
    assert outcome.status == 2 and "prepare ended with exit status 2" in outcome.err
    assert [line["status"] for line in log()] == [2]


def log() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (OUT / pipeline.LOG).read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_in_every_stage_give_the_same_bytes(tmp_path, monkeypatch):
    """Each stage is killed at two random times: once with its whole process group, and once only the pipeline.

    SMIM_KILL_SENTENCES is the number of sentences.
    """
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path, int(os.environ.get("SMIM_KILL_SENTENCES", "3000")))
    write_config()
    begin("--workers=2").wait()
    seconds = {line["stage"]: line["seconds"] for line in log()}
    expected = contents()
    assert set(seconds) == set(pipeline.STAGES)
    shutil.rmtree(OUT)
    chance = random.Random(0)
    for number, stage in enumerate(pipeline.STAGES):
        for whole_group in (True, False):
            delay = chance.uniform(0, seconds[stage])
            while not killed_in(stage, delay, whole_group=whole_group):  # it had ended
                delay /= 2
                for each in pipeline.STAGES[number:]:
                    for output in OUT.glob(f"{each}-*"):
                        storage.clear_away(output)
    assert begin("--workers=2").wait() == 0, Path("log").read_text()
    assert contents() == expected


def killed_in(stage: str, delay: float, *, whole_group: bool) -> bool:
    """Kill a pipeline so many seconds after a stage began; whether this stage was running."""
    run = begin("--workers=2")
    while run.poll() is None and f"\n{stage}: python" not in Path("log").read_text():
        time.sleep(0.02)
    time.sleep(delay)
    last = re.findall(r"^(\w+): python", Path("log").read_text(), re.MULTILINE)[-1]
    is_running = run.poll() is None and last == stage
    children = psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
    if run.poll() is None:
        (os.killpg if whole_group else os.kill)(run.pid, signal.SIGKILL)
        run.wait()
    # The stage's command and its workers end with their pipeline.
    assert psutil.wait_procs(children, timeout=60)[1] == []
    return is_running


def begin(*options: str) -> subprocess.Popen[bytes]:
    """The pipeline, in a process group of its own; what it prints goes to the file `log`."""
    with Path("log").open("w") as file:
        file.write("\n")
        file.flush()
        command = [sys.executable, "-m", "smim", "pipeline", "config.yaml", *options]
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def contents() -> dict[str, Any]:
    """The checksums of all outputs, without times and what was chosen by them."""
    found: dict[str, Any] = {}
    for path in sorted(OUT.rglob("*")):
        parts = path.relative_to(OUT).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            kind = parts[0].split("-")[0]
            if kind in ("prepare", "encode") or parts[1:2] == ("model",) or (kind == "index" and len(parts) > 2):
                found[str(path)] = storage.sha256(path)
    [manifest] = OUT.glob("index-*/manifest.json")
    read = json.loads(manifest.read_text())
    found["manifest"] = {name: value for name, value in read.items() if name not in ("search", "measured", "sha256")}
    [report] = OUT.glob("report-*.json")
    found["report"] = json.loads(report.read_text())["bytes"]
    return found
