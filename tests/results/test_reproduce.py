"""Recorded results made again: what is planned for each, what is skipped, and what is written."""

import json
import shlex
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from results import reproduce
from smim import config, pipeline
from smim.errors import UserError
from tests.test_documented_commands import check

NAMES = reproduce.names()
RECORDED = {name: reproduce.read(name) for name in NAMES}
# Each kind of corpus and of measurement.
SOME = ["ptb_smim_512_seed1", "ptb_superposition_512", "yahoo_gru_smim", "everything_superposition_1024", "wt2_gru_ae"]

check_once = cache(lambda words: check(list(words)))


def commands(name: str, seed: int | None = None) -> dict[str, list[str]]:
    """The words of each step."""
    return {stage.name: shlex.split(stage.shown) for stage in reproduce.stages(name, seed, "corpora")}


@pytest.fixture
def there(tmp_path, monkeypatch):
    """An empty folder to work in, beside a copy of results/."""
    (tmp_path / "results").mkdir()
    for path in [reproduce.RESULTS / "reproduce.yaml", *reproduce.RESULTS.glob("*.json")]:
        shutil.copy(path, tmp_path / "results")
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMIM_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_result_has_steps_whose_commands_are_well_formed(name: str) -> None:
    planned = commands(name)
    for words in planned.values():
        check_once(tuple(words))
    first, *_, last = planned
    assert last == "record" and first.startswith("prepare data/")
    assert {each for each in planned if each.startswith("evaluate")} == {
        f"evaluate {report}" for report in RECORDED[name]["reports"]
    }
    assert ("codes" in planned) == bool(RECORDED[name]["codes"])


@pytest.mark.parametrize("name", SOME)
def test_the_training_is_the_recorded_one_but_for_its_directory_and_seed(name: str) -> None:
    recorded = set(shlex.split(RECORDED[name]["command"]))
    for seed, new in ((None, name), (7, f"{name.removesuffix('_seed1')}_seed7")):
        words = set(commands(name, seed)["train"])
        assert {word for word in recorded - words if not word.startswith(("run.dir=", "train.seed="))} == set()
        added = {f"run.dir=runs/{new}", "train.resume=auto"} | ({f"train.seed={seed}"} if seed else set())
        assert words - recorded - {"train.max_epochs=11"} == added - recorded


def test_a_training_that_was_stopped_ends_after_its_completed_epochs() -> None:
    assert "train.max_epochs=11" in commands("ptb_smim_512_h200")["train"]
    assert "train.max_epochs=16" in commands("ptb_smim_512")["train"]
    assert not any("max_epochs" in word for word in commands("ptb_superposition_512")["train"])


def test_the_steps_of_a_result_read_each_other_s_outputs() -> None:
    planned = commands("yahoo_gru_smim", 2)
    assert list(planned) == [
        *("prepare data/yahoo", "prepare data/yahoocqa", "train", "evaluate report", "evaluate report_decoded"),
        *("codes", "record"),
    ]
    assert planned["prepare data/yahoocqa"][2:] == [
        *("corpus=yahoocqa", "corpus.path=corpora/qa_yahoocqa_subset", "output=data/yahoocqa"),
    ]
    model = "runs/yahoo_gru_smim_seed2/model"
    assert f"model.dir={model}" in planned["evaluate report"] and model in planned["codes"]
    assert "output=runs/yahoo_gru_smim_seed2/report" in planned["evaluate report"]
    assert "eval.answering.corpus=data/yahoocqa" in planned["evaluate report"]
    kept = planned["record"]
    assert kept[2] == "runs/yahoo_gru_smim_seed2" and kept[-1].startswith("a stand-in")
    assert "train.resume=auto" not in kept[kept.index("--command") + 1].split()


def test_evaluations_elsewhere_are_repeated_here() -> None:
    assert "/dev/shm" in RECORDED["ptb_ae_128"]["reports"]["report"]["command"]
    words = commands("ptb_ae_128")["evaluate report"]
    assert words[:5] == [
        *("accelerate", "launch", "eval/run.py", "model.dir=runs/ptb_ae_128/model", "corpus.dir=data/ptb"),
    ]


def test_complete_outputs_are_skipped(there: Path) -> None:
    run = there / "runs/yelp_gru_ae"
    run.mkdir(parents=True)
    (run / "status.json").write_text('{"status": "stopped"}')

    def states() -> dict[str, str]:
        return {stage.name: state for stage, state in pipeline.states(reproduce.stages("yelp_gru_ae", None, "corpora"))}

    assert list(states().values()) == ["runs", "continues", "runs", "runs"]
    (run / "status.json").write_text('{"status": "finished"}')
    (there / "data/yelp15").mkdir(parents=True)
    assert states()["train"] == states()["prepare data/yelp15"] == "done"
    (run / "record.json").write_text("{}")
    assert states()["evaluate report"] == "not needed"


def test_a_dry_run_prints_the_commands_and_writes_nothing(there: Path, capsys) -> None:
    before = sorted(there.rglob("*"))
    reproduce.main("yelp_gru_ae", seed=1, data=Path("corpora"), dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# prepare data/yelp15: runs" and sorted(there.rglob("*")) == before
    assert [shlex.split(line) for line in lines[1::2]] == list(commands("yelp_gru_ae", 1).values())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("yelp_gru_sae", None, r"results/ has no 'yelp_gru_sae'; did you mean 'yelp_gru_svae'\?"),
        ("yelp_gru_ae", None, r"prepare data/yelp15 needs \$SMIM_DATA/yelp10k; set SMIM_DATA or --data"),
        ("yelp_gru_ae", "data", r"needs data/yelp10k; set SMIM_DATA"),
        ("tatoeba_gru", "corpora", r"needs data/judge, which docs/evaluation.md says how to make"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(there: Path, name, data, message) -> None:
    with pytest.raises(UserError, match=message):
        reproduce.main(name, data=data and Path(data))
    assert not (there / "runs").exists()


def test_a_run_of_another_training_is_refused(there: Path) -> None:
    planned = reproduce.stages("yelp_gru_ae", None, "corpora")
    settings = reproduce._settings(planned[1].command)
    planned[1].output.mkdir(parents=True)
    for changed, refused in (("train.log_every=7", False), ("train.max_epochs=2", True), ("model.latent_dim=8", True)):
        key, _, value = changed.partition("=")
        other = config.compose("train", [each for each in settings if not each.startswith(f"{key}=")] + [changed])
        OmegaConf.save(other, planned[1].output / "config.yaml")
        message = f"runs/yelp_gru_ae has another training, with {key}={value}; rename it"
        assert reproduce.differences(planned) == [message] * refused


def test_a_result_of_an_unknown_corpus_says_where_to_add_it(there: Path) -> None:
    changed = RECORDED["yelp_gru_ae"] | {"command": "smim train corpus.dir=data/mine"}
    (there / "results/mine.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"reproduce.yaml has no corpus data/mine, which mine needs"):
        reproduce.stages("mine", None, "corpora")


def test_the_new_record_is_written_and_compared(there: Path, monkeypatch, capsys) -> None:
    old = RECORDED["yelp_gru_ae"]
    [report] = old["reports"].values()
    metric: dict[str, Any] = report["metrics"]["nll"]
    (there / "corpora/yelp10k").mkdir(parents=True)

    def run(planned, output) -> None:
        new = {**metric, "value": metric["value"] + 2 * 2**0.5 * metric["standard_error"]}
        made = {"reports": {"report": {"command": f"eval/run.py x={there}/corpora/y", "metrics": {"nll": new}}}}
        planned[-1].output.parent.mkdir(parents=True)
        planned[-1].output.write_text(json.dumps(made))

    monkeypatch.setattr(pipeline, "run", run)
    reproduce.main("yelp_gru_ae", seed=3, data=there / "corpora")
    written = json.loads((there / "results/yelp_gru_ae_seed3.json").read_text())
    assert written["reports"]["report"]["command"] == "eval/run.py x=$SMIM_DATA/y"
    assert json.loads((there / "results/yelp_gru_ae.json").read_text()) == old
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| report | nll |")]
    assert row.endswith("| +2.0 |")
