"""Figures from nothing: trainings that are done once, pages that say what holds, and mistakes that are named."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval import figures
from eval.figure_page import as_markdown, points_of
from eval.figures import FIGURES, FigureArgs
from smim import config, storage
from smim.errors import SmimError, UserError
from tests.scripts import ROOT, run_script
from tests.training.conftest import environment

TINY = [
    *("corpus.train=200", "corpus.valid=50", "corpus.test=80", "train.max_steps=4", "figure.values=[3,6]"),
    *("figure.seeds=1", "figures.workers=1", "eval.vectors.importance_samples=4"),
]


def overrides(output: Path, *more: str, experiment: str = "figure_5_2") -> list[str]:
    chosen = {o.split("=")[0]: o for o in [f"experiment={experiment}", f"output={output}", *TINY, *more]}
    return list(chosen.values())


def make(output: Path, *more: str, experiment: str = "figure_5_2") -> dict:
    figures.main(config.compose("figures", overrides(output, *more, experiment=experiment)))
    return storage.read_json(output / experiment / "figures.json")


def measured(content: dict) -> list[dict]:
    """The trainings of a figure without what depends on the clock."""
    return [{name: value for name, value in each.items() if name != "seconds"} for each in content["trainings"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The output of Figure 5.2 with two widths, to be left as it is."""
    output = tmp_path_factory.mktemp("figures")
    make(output)
    return output


def test_a_figure_is_made_from_nothing(made):
    content = storage.read_json(made / "figure_5_2" / "figures.json")
    places = [(training["method"], training["value"], training["seed"]) for training in content["trainings"]]
    assert places == [("VAE", 3, 0), ("VAE", 6, 0), ("MIM", 3, 0), ("MIM", 6, 0)]
    for training in content["trainings"]:
        run = made / "runs" / training["run"]
        settings = storage.read_json(run / "config.json")
        assert settings["model"]["encoder"]["hidden_dim"] == training["value"]
        assert settings["objective"]["name"] == training["method"].lower()
        assert storage.read_json(run / "model" / "config.json")["training"]["step"] in (2, 4)
        assert training["metrics"]["mutual_information_ksg"] == pytest.approx(0, abs=0.5)
        assert not (run / "checkpoints").exists()
    assert (made / "figure_5_2" / "figure_5_2.png").read_bytes().startswith(b"\x89PNG")
    page = (made / "figure_5_2" / "figure_5_2.md").read_text()
    assert "MIM above VAE in `mutual_information_ksg`: at" in page and "| `hidden_dim` | VAE | MIM |" in page


def test_finished_trainings_are_not_done_again_whatever_figure_needs_them(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    again = make(tmp_path)
    pictures = make(tmp_path, experiment="figure_5_1")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert again["trainings"] == pictures["trainings"]
    assert (tmp_path / "figure_5_1" / "figure_5_1.png").stat().st_size > 20_000


def test_a_training_that_was_measured_before_has_its_metrics_under_their_older_name(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("runs/*/measured.json"):
        content = storage.read_json(path)
        storage.write_json(path, {"figures": content.pop("metrics"), **content})
    assert make(tmp_path)["trainings"] == storage.read_json(made / "figure_5_2" / "figures.json")["trainings"]


def test_other_settings_are_other_trainings(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    make(tmp_path, "figure.values=[3]", "train.learning_rate=0.007")
    make(tmp_path, "figure.values=[3]", "eval.vectors.k=4")
    assert len(list((tmp_path / "runs").iterdir())) == 4 + 4


@pytest.mark.slow
def test_workers_give_the_same_figures_as_one_process(made, tmp_path):
    done = run_script("eval/figures.py", overrides(tmp_path, "figures.workers=2"), timeout=120)
    assert done.returncode == 0, done.stderr
    one, two = (storage.read_json(output / "figure_5_2" / "figures.json") for output in (made, tmp_path))
    assert measured(one) == measured(two)


@pytest.mark.slow
def test_a_figure_that_was_killed_goes_on_to_the_same_numbers(tmp_path):
    settings = ["figure.values=[3]", "train.max_steps=60", "train.checkpoint_every=5"]
    command = [sys.executable, "eval/figures.py", *overrides(tmp_path / "cut", *settings, "train.log_every=1")]
    killed = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cut").glob("runs/.*.work/result/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    [first] = (tmp_path / "cut" / "runs").glob("*.work")
    assert (first / "result" / "checkpoints").exists() and not (first / "result" / "measured.json").exists()
    resumed = make(tmp_path / "cut", *settings, "train.log_every=1")
    whole = make(tmp_path / "whole", *settings, "train.log_every=1")
    assert measured(resumed) == measured(whole)


def test_bars_compare_methods_where_nothing_is_varied(tmp_path):
    content = make(tmp_path, "figure.kind=bars", "figure.vary=null", "figure.values=[]", "figure.seeds=2")
    assert [training["value"] for training in content["trainings"]] == [None] * 4
    [vae] = content["points"]["rmse"]["VAE"]
    values = [training["metrics"]["rmse"] for training in content["trainings"][:2]]
    assert vae["n"] == 2 and vae["mean"] == pytest.approx(sum(values) / 2)
    assert vae["stdev"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "| method |" in (tmp_path / "figure_5_2" / "figure_5_2.md").read_text()


def test_trainings_that_diverge_are_told_and_not_tried_again(tmp_path):
    for _ in range(2):
        with pytest.raises(SmimError, match=r"figure_5_2: all trainings failed; .*figures\.json has the reasons"):
            make(tmp_path, "figure.values=[3]", "train.learning_rate=1e30", "train.min_learning_rate=0")
    content = storage.read_json(tmp_path / "figure_5_2" / "figures.json")
    assert all("became" in training["failed"] for training in content["trainings"])


def entry(method: str, value: int, seed: int, rmse: float | None) -> dict:
    result = {"failed": "the loss became nan"} if rmse is None else {"metrics": {"rmse": rmse}}
    return {"method": method, "value": value, "seed": seed, "run": "r", "seconds": 1.0, **result}


@pytest.fixture
def content(made) -> dict:
    """As if two seeds had been measured at two widths, and one training had failed."""
    trainings = [
        *(entry("VAE", 3, 0, 0.5), entry("VAE", 3, 1, 0.7), entry("VAE", 6, 0, 0.2), entry("VAE", 6, 1, None)),
        *(entry("MIM", 3, 0, 0.1), entry("MIM", 3, 1, 0.1), entry("MIM", 6, 0, 0.3), entry("MIM", 6, 1, 0.5)),
    ]
    content = storage.read_json(made / "figure_5_2" / "figures.json")
    content["figure"] |= {"metrics": ["rmse"], "above": {"rmse": ["VAE", "MIM"]}, "seeds": 2}
    return content | {"trainings": trainings, "points": points_of(trainings)}


def test_means_are_over_the_seeds_that_finished(content):
    by_value = {point["value"]: point for point in content["points"]["rmse"]["VAE"]}
    assert by_value[3] == {"value": 3, "mean": pytest.approx(0.6), "stdev": pytest.approx(0.02**0.5), "n": 2}
    assert by_value[6] == {"value": 6, "mean": 0.2, "stdev": None, "n": 1}


def test_a_page_says_where_a_statement_holds_and_what_failed(content):
    page = as_markdown(content)
    assert "- VAE above MIM in `rmse`: at 1 of 2 (3: +0.5; 6: -0.2)" in page
    assert "| 3 | 0.60 ± 0.14 | 0.1 ± 0 |" in page and "| 6 | 0.2 | 0.40 ± 0.14 |" in page
    assert "## 1 of 8 trainings failed and are left out\n\n- VAE 6: seed 1: the loss became nan" in page


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_one_of_its_experiment_and_trains_with_it(name):
    cfg = config.compose("figures", [f"experiment={name}"])
    assert config.make(FigureArgs, cfg.figure, "figure").name == name
    assert figures.plan(cfg, config.make(FigureArgs, cfg.figure, "figure"), Path("data"), Path("runs"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["figure.seeds=0"], r"figure\.seeds is 0, but it must be at least 1"),
        (["figure.kind=curvs"], r"figure\.kind is 'curvs'; did you mean 'curves'"),
        (["figure.vary=width"], r"figure\.vary=width is no setting of model\."),
        (["figure.values=[]"], r"only one of figure\.vary and figure\.values is set"),
        (["figure.above={rmse: [VEA, MIM]}"], r"figure\.above\.rmse has 'VEA'; did you mean 'VAE'"),
        (["figure.methods={MIM: {name: mimm}}", "figure.above={}"], r"unknown objective 'mimm'; did you mean 'mim'"),
        (["figure.values=[0]"], r"model\.hidden_dim is 0|hidden_dim is 0"),
        (["figure.kind=planes", "corpus.dimension=3"], r"figure\.kind=planes needs two dimensions"),
        (["corpus=demo"], r"corpus=demo is not a corpus of vectors; valid: gmm, digits"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_trained(tmp_path, wrong, message):
    small = [] if wrong == ["corpus=demo"] else TINY
    with pytest.raises(UserError, match=message):
        figures.main(config.compose("figures", ["experiment=figure_5_2", f"output={tmp_path}", *small, *wrong]))
    assert not (tmp_path / "runs").exists()


def test_an_experiment_that_is_no_figure_is_refused(tmp_path):
    refused = run_script("eval/figures.py", [f"output={tmp_path}", "experiment=ptb_smim_16"], timeout=60)
    assert refused.returncode == 2 and "experiment=ptb_smim_16 is no figure; valid: figure_4_1," in refused.stderr


def test_without_an_experiment_all_figures_are_made(tmp_path):
    refused = run_script("eval/figures.py", [f"output={tmp_path}", "figure.seeds=0"], timeout=60)
    assert refused.returncode == 2 and "figure.seeds is 0, but it must be at least 1" in refused.stderr
