"""Figures from nothing: trainings that are done once, pages that say what holds, and mistakes that are named."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from eval import figures
from eval.figure_page import as_markdown, points_of
from eval.figures import BY_NAME, FIGURES, OF_IMAGES, FigureArgs
from smim import config, storage
from smim.errors import SmimError, UserError
from smim.text.corpus import CARD
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
        with pytest.raises(SmimError, match=r"all trainings failed; .*figure_5_2/figures\.json has the reasons"):
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


TABLE = {
    "kind": "table",
    **{"vary": None, "values": [], "metrics": ["marginal_nll", "rmse", "rmse_mean"], "note": "Two models."},
    "models": {"small": {"hidden_dim": 3}, "large": {"hidden_dim": 6, "train.max_steps": 2}},
    "methods": {"VAE": {"name": "vae"}, "A-MIM": {"name": "amim", "models": ["large"]}},
    "above": {"rmse": [["A-MIM", "VAE"], ["VAE", "A-MIM"]]},
    "published": {"rmse": {"large": {"VAE": 0.25}}},
}


def make_table(output: Path, **changed: Any) -> dict:
    """Make Figure 5.2 with the section of `TABLE`, and `changed` settings."""
    cfg = config.compose("figures", overrides(output))
    OmegaConf.set_struct(cfg, False)
    cfg.figure = {**cfg.figure, **TABLE, **changed}
    OmegaConf.set_struct(cfg, True)
    figures.main(cfg)
    return storage.read_json(output / "figure_5_2" / "figures.json")


@pytest.fixture(scope="module")
def of_models(tmp_path_factory) -> Path:
    """The output of a table of two models, of which one method trains one."""
    output = tmp_path_factory.mktemp("models")
    make_table(output)
    return output


def test_a_table_has_a_row_for_each_model_and_method_beside_the_published_numbers(of_models):
    content = storage.read_json(of_models / "figure_5_2" / "figures.json")
    places = [(training["method"], training["value"]) for training in content["trainings"]]
    assert places == [("VAE", "small"), ("VAE", "large"), ("A-MIM", "large")]
    settings = [storage.read_json(of_models / "runs" / each["run"] / "config.json") for each in content["trainings"]]
    assert [each["model"]["encoder"]["hidden_dim"] for each in settings] == [3, 6, 6]
    assert [each["train"]["max_steps"] for each in settings] == [4, 2, 2]
    page = (of_models / "figure_5_2" / "figure_5_2.md").read_text()
    assert "![" not in page and "\n\nTwo models.\n\n" in page
    assert "| model | method | NLL (marginal), nats | RMSE | published |" in page
    [row] = [line.split(" | ") for line in page.splitlines() if line.startswith("| large | VAE |")][:1]
    assert row[4] == "0.25 |" and float(row[3]) == pytest.approx(content["points"]["rmse"]["VAE"][1]["mean"], rel=1e-3)
    assert "| small | A-MIM |" not in page
    assert page.count(" above ") == 2 and page.count(" in `rmse`: at 1 of 1 (large: +") == 1


def test_codes_and_images_are_pictures_of_the_models_of_a_table(of_models, tmp_path, monkeypatch):
    shutil.copytree(of_models, tmp_path, dirs_exist_ok=True)
    before = set((tmp_path / "runs").iterdir())
    maps = []
    monkeypatch.setattr(figures.plots, "latent_maps", lambda given, output, size: maps.append(given) or output.touch())
    make_table(tmp_path, kind="codes")
    assert [*maps[0]] == ["small, VAE", "large, VAE", "large, A-MIM"]
    for points, labels in maps[0].values():
        assert points.shape == (80, 2) and len(labels) == 80 and set(labels) <= set("01234")
    with pytest.raises(UserError, match=r"figure\.kind=images needs a corpus of images, which corpus=gmm is not"):
        make_table(tmp_path, kind="images")
    [card] = tmp_path.glob(f"data/*/{CARD}")
    storage.write_json(card, {**storage.read_json(card), "shape": [1, 1, 2]})
    strips = []
    monkeypatch.setattr(figures.pictures, "strips", lambda given, output, shape: strips.append(given) or output.touch())
    make_table(tmp_path, kind="images")
    assert [*strips[0]["small"]] == ["test images", "VAE: reconstructions", "VAE: samples"]
    assert [*strips[0]["large"]][1:] == [
        *("VAE: reconstructions", "A-MIM: reconstructions", "VAE: samples", "A-MIM: samples"),
    ]
    assert {rows.shape for panel in strips[0].values() for rows in panel.values()} == {(10, 2)}
    assert len(set((tmp_path / "runs").iterdir()) - before) == 3  # the card's hash is part of a training's identity


@pytest.mark.parametrize("name", [*FIGURES, *OF_IMAGES, *BY_NAME])
def test_every_figure_is_one_of_its_experiment_and_trains_with_it(name):
    cfg = config.compose("figures", [f"experiment={name}"])
    assert config.make(FigureArgs, cfg.figure, "figure").name == name
    assert figures.plan(cfg, config.make(FigureArgs, cfg.figure, "figure"), Path("data"), Path("runs"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["figure.seeds=0"], r"figure\.seeds is 0, but it must be at least 1"),
        (["figure.kind=curvs"], r"figure\.kind is 'curvs'; did you mean 'curves'"),
        (["figure.metrics=[rmsee]"], r"figure\.metrics has 'rmsee'; did you mean 'rmse'"),
        (["figure.vary=width"], r"figure\.vary=width is no setting of model\."),
        (["figure.values=[]"], r"only one of figure\.vary and figure\.values is set"),
        (["figure.above={rmse: [VEA, MIM]}"], r"figure\.above\.rmse has 'VEA'; did you mean 'VAE'"),
        (["figure.above={rmse: [[VEA, MIM]]}"], r"figure\.above\.rmse has 'VEA'; did you mean 'VAE'"),
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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vary": "hidden_dim", "values": [3]}, r"figure\.vary and figure\.models are both set"),
        ({"methods": {"VAE": {"name": "vae", "models": ["lage"]}}, "above": {}, "published": {}},
         r"figure\.methods\.VAE\.models has 'lage'; did you mean 'large'"),
        ({"published": {"rmse": {"large": {"VEA": 1.0}}}}, r"published\.rmse\.large has 'VEA'; did you mean 'VAE'"),
        ({"published": {"rmse": {"lage": {}}}}, r"figure\.published\.rmse has 'lage'; did you mean 'large'"),
        ({"models": {"small": {}, "large": {"hiden_dim": 3}}}, r"unknown key model\.hiden_dim; did you mean"),
    ],
)  # fmt: skip
def test_a_wrong_name_in_a_table_is_told_before_anything_is_trained(tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        make_table(tmp_path, **wrong)
    assert not (tmp_path / "runs").exists()


def test_an_experiment_that_is_no_figure_is_refused(tmp_path):
    refused = run_script("eval/figures.py", [f"output={tmp_path}", "experiment=ptb_smim_16"], timeout=60)
    assert (
        refused.returncode == 2 and "experiment=ptb_smim_16 is no figure; valid: codes_fashion_mnist," in refused.stderr
    )


def test_without_an_experiment_all_figures_are_tried_and_the_mistakes_of_all_are_told_at_the_end(tmp_path):
    refused = run_script("eval/figures.py", [f"output={tmp_path}", "figure.seeds=0"], timeout=120)
    told = refused.stderr.splitlines()[-1]
    assert refused.returncode == 2
    assert all(f"{name}: figure.seeds is 0, but it must be at least 1" in told for name in FIGURES)


# What a figure of another corpus and model needs to be made in seconds.
FEW = ["figure.values=[]", "figure.seeds=1", "figures.workers=1"]


def test_a_picture_of_densities_has_a_column_for_each_metric_and_method(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures.plots, "densities", lambda columns, output: drawn.update(columns))
    content = make(tmp_path, *FEW, experiment="figure_b_1")
    metrics = [set(training["metrics"]) for training in content["trainings"]]
    assert all({"prior_distance", "prior_anchor_distance"} <= each for each in metrics)
    shown = ["reconstruction", "from anchor", "from prior"]
    assert list(drawn) == [f"{method}\n{name}" for name in shown for method in ("CE", "MIM")]
    for (of_x, _), name in drawn.values():
        width = of_x.points[1] - of_x.points[0]
        assert getattr(of_x, name).sum() * width == pytest.approx(1, abs=0.05)


def test_a_picture_of_chains_has_a_row_for_each_method_with_its_validations(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures.plots, "chains", lambda rows, output, log_density: drawn.extend(rows))
    make(tmp_path, *FEW, "figure.metrics=[mmd]", "figure.above={}", experiment="infovae_figure_1")
    assert [row.title for row in drawn] == ["ELBO", "Autoencoder", "MMD"]
    for row in drawn:
        assert row.ancestral.shape == row.chain.shape == (1000, 2) and row.chain.std() > 0.1
        assert [line["step"] for line in row.history] == [2, 4]


@pytest.mark.parametrize("experiment", ["figure_b_3", "infovae_figure_2"])
def test_pictures_of_densities_and_of_chains_are_drawn(tmp_path, experiment):
    make(tmp_path, *FEW, "figure.above={}", experiment=experiment)
    assert (tmp_path / experiment / f"{experiment}.png").stat().st_size > 10_000


def test_densities_of_more_dimensions_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"figure\.kind=densities needs corpus\.dimension=1"):
        make(tmp_path, *FEW, "corpus.dimension=2", "figure.above={}", experiment="figure_b_1")


def test_a_setting_of_the_training_can_be_varied(tmp_path):
    content = make(tmp_path, "figure.vary=train.max_steps", "figure.values=[2,4]")
    steps = {training["value"]: training["run"] for training in content["trainings"]}
    settings = [storage.read_json(tmp_path / "runs" / run / "config.json") for run in steps.values()]
    assert [each["train"]["max_steps"] for each in settings] == list(steps) == [2, 4]
