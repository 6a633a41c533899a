"""`smim tzk images ...` on small corpora of bars."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.image import imread

from smim.tzk import FitArgs, GlowArgs, KnowledgeArgs, fit_image_tzk, open_image_tzk
from smim.tzk.labelled import LabelledPrior
from smim.vectors.corpus import VectorCorpus
from tests.commands import Command, make_command
from tests.tzk.pictures import write_bars

FAST = ["--num-optimizer-steps", 10, "--num-coupling-layers", 1, "--hidden-dim", 4, "--batch-size", 4]
LABELS = ["--label", "way=across", "--label", "corpus=dark"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return make_command(monkeypatch, capsys, "tzk")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("bars")
    return [write_bars(directory, name).directory for name in ("dark", "light")]


@pytest.fixture(scope="module")
def tzk(corpora: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two labels, of as many updates as `FAST`."""
    opened, fit = [VectorCorpus.open(corpus) for corpus in corpora], FitArgs(num_optimizer_steps=10, batch_size=4)
    directory = tmp_path_factory.mktemp("tzk") / "bars"
    made = fit_image_tzk(opened, directory, args=GlowArgs(2, 1, 4), fit=fit)
    for label in LABELS[1::2]:
        made.add(opened, label, args=KnowledgeArgs(num_coupling_layers=1, hidden_dim=4), fit=fit)
    return directory


def test_commands_learn_what_the_library_learns(
    command: Command, tzk: Path, corpora: list[Path], tmp_path: Path
) -> None:
    directory, fast = tmp_path / "tzk", [*FAST, "--learning-rate", 1e-3]
    fitted = command("images", "fit", *corpora, "-o", directory, "--num-scales", 2, *fast)
    assert fitted.out.startswith(f"{directory}: p(t) of 120 images, ") and "bits a dimension" in fitted.out
    added = command("images", "add", directory, *corpora, *LABELS, *fast)
    assert added.out == "way=across: 50.0% of the images with a value\ncorpus=dark: 50.0% of the images with a value\n"
    for file in ("prior.safetensors", "labels/way=across/knowledge.safetensors"):
        assert (directory / file).read_bytes() == (tzk / file).read_bytes()
    refused = command("images", "add", directory, *corpora, *LABELS, *fast)
    assert refused.status == 2 and "already has the label way=across; replace it with --force" in refused.err


def test_pictures_are_written(command: Command, tzk: Path, corpora: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    sampled = command("images", "sample", tzk, *LABELS, "--num", 5, "--gibbs-steps", 2, "-o", out)
    assert sampled.out == f"{out}: 5 images\n" and imread(out).shape[:2] == (18, 27)
    command("images", "interpolate", tzk, *corpora, "--rows", "0,1,2,3", "--num", 4, "-o", out)
    assert imread(out).shape[:2] == (36, 36)
    command("images", "rank", tzk, *corpora, *LABELS, "-k", 2, "-o", out)
    assert imread(out).shape[:2] == (9, 18)


def test_commands_print_what_the_library_says(command: Command, tzk: Path, corpora: list[Path]) -> None:
    opened, corpus = open_image_tzk(tzk), [VectorCorpus.open(each) for each in corpora]
    labels = LABELS[1::2]
    [probabilities] = opened.classify(corpus, [70], labels).tolist()
    pairs = sorted(zip(probabilities, labels, strict=True), reverse=True)
    cells = command("images", "classify", tzk, *corpora, *LABELS, "--rows", "70").cells
    assert cells == [[f"{p:.3f}", label, "70", "across", "light"] for p, label in pairs]
    found = json.loads(command("images", "classify", tzk, *corpora, *LABELS, "--rows", "70", "--json").out)
    assert found["images"][0]["labels"] == pytest.approx(dict(zip(labels, probabilities, strict=True)))
    ranked = [each.row for each in opened.rank(corpus, labels, 3)]
    assert [int(row) for _, _, row, *_ in command("images", "rank", tzk, *corpora, *LABELS, "-k", 3).cells] == ranked
    report = json.loads(command("images", "report", tzk, *corpora, "--num", 20, "--json").out)["labels"]
    assert [each["label"] for each in report] == [None, "corpus=dark", "way=across"]
    shown = command("images", "report", tzk, *corpora, "--num", 20).cells
    assert shown[1][3:5] == ["{:.3f} ± {:.3f}".format(*report[1][name]) for name in ("conditional", "gain")]


def test_label_columns_of_a_corpus_do_not_replace_results(command: Command, tzk: Path, tmp_path: Path) -> None:
    columns = {"row": "seven", "probability": "high", "labels": "none"}
    odd = write_bars(tmp_path, "odd", num=2, others={name: [value] * 2 for name, value in columns.items()})
    own = {"way": "across", **columns, "corpus": "odd"}
    [image] = json.loads(
        command("images", "classify", tzk, odd.directory, "--rows", 0, "--label", "way=across", "--json").out
    )["images"]
    assert (image["row"], image["columns"], list(image["labels"])) == (0, own, ["way=across"])
    words = ["images", "rank", tzk, odd.directory, "--label", "way=across"]
    ranked = json.loads(command(*words, "--json").out)["ranked"]
    assert [each["columns"]["row"] for each in ranked] == ["seven"] * 2
    assert {each["row"] for each in ranked} == {0, 1} and all(0 <= each["probability"] <= 1 for each in ranked)
    assert command(*words).cells[0][3:] == [ranked[0]["columns"]["way"], *columns.values(), "odd"]


def test_second_label_that_cannot_be_learned_is_refused_before_the_first_is(
    command: Command, tzk: Path, corpora: list[Path], tmp_path: Path
) -> None:
    tzk = shutil.copytree(tzk, tmp_path / "tzk")
    refused = command("images", "add", tzk, *corpora, "--label", "way=down", "--label", "way=up", *FAST)
    assert refused.status == 2 and "no images of the split 'train' have way=up" in refused.err
    assert "way=down" not in open_image_tzk(tzk).labels


def test_label_has_the_same_settings_on_the_command_line_and_in_python_and_options_reach_the_training(
    command: Command, tzk: Path, corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def learn(_: object, source: object, label: str, args: KnowledgeArgs, fit: FitArgs) -> SimpleNamespace:
        given.append((args, fit))
        return SimpleNamespace(frequency=0.5)

    monkeypatch.setattr(LabelledPrior, "_learn", learn)
    monkeypatch.setattr("smim.tzk.image_model.fit_to", lambda *_, knowledge, fit, **__: given.append((knowledge, fit)))
    monkeypatch.setattr("smim.tzk.image_model.open_image_tzk", lambda _: opened)
    opened, corpus = open_image_tzk(tzk), [VectorCorpus.open(each) for each in corpora]
    label, args = "way=down", GlowArgs(2)
    opened.add(corpus, label)
    fit_image_tzk(corpus, tmp_path / "new", args=args, labels=[label])
    in_python, given[:] = list(given), []
    words = [
        ["images", "add", tzk, *corpora, "--label", label],
        ["images", "fit", *corpora, "--label", label, "--num-scales", 2, "-o", tmp_path / "new"],
    ]
    for each in words:
        assert command(*each).status == 0
    assert given == [in_python[0], (in_python[0][0], in_python[1][1])] == in_python  # type: ignore[index]
    given.clear()
    for each in words:
        command(*each, "--code-dim", 3, "--num-code-layers", 2, "--draw-t")
    for knowledge, fit in given:  # type: ignore[misc]
        assert (knowledge.code_dim, knowledge.num_code_layers, fit.draw_t) == (3, 2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "nowhere", "-o", "NEW"], "nowhere is not a prepared corpus"),
        (["fit", "CORPUS", "-o", "TZK"], "exists; replace it and its labels with --force"),
        (["sample", "nowhere", "-o", "NEW"], "make one with `smim tzk images fit CORPUS -o nowhere`"),
        (["sample", "TZK", "-o", "NEW.png", "--gibbs-steps", "0"], "gibbs_steps is 0"),
        (["sample", "TZK", "-o", "NEW.png", "--gibbs-steps", "5"], "block Gibbs sampling needs a label"),
        (["sample", "TZK", "-o", "NEW.jpg"], "give a name that ends in .png"),
        (["rank", "TZK", "CORPUS", "--label", "way=across", "-o", "nowhere/of.png"], "nowhere does not exist"),
        (["interpolate", "TZK", "CORPUS", "--rows", "0,1,2,3", "-o", "NEW.jpg"], "give a name that ends in .png"),
        (["classify", "TZK", "CORPUS", "--rows", f"{10**20}"], "its rows are 0 to 59"),
        (["report", "TZK", "CORPUS", "--num", "1"], "num is 1, but it must be a whole number of at least 2"),
        (["fit", "CORPUS", "-o", "NEW", "--num-scales", "2", "--draw-t"], "settings of labels"),
        (["rank", "TZK", "CORPUS"], "give at least one label to rank by"),
        (["classify", "TZK", "CORPUS", "--rows", "1-3"], "--rows is '1-3'; give row numbers with commas"),
        (["add", "TZK", "CORPUS", "--label", "wey=down"], "has no label column 'wey'; did you mean 'way'"),
    ],
)
def test_wrong_requests_are_refused(
    command: Command, tzk: Path, corpora: list[Path], tmp_path: Path, words: list[str], message: str
) -> None:
    places = {"TZK": tzk, "CORPUS": corpora[0]}
    refused = command("images", *[places.get(word, word.replace("NEW", str(tmp_path / "new"))) for word in words])
    assert (refused.status, refused.out) == (2, "") and message in refused.err


@pytest.mark.parametrize("name", ["fit", "add", "sample", "classify", "rank", "interpolate", "report"])
def test_every_command_has_an_example_in_its_help(command: Command, name: str) -> None:
    assert f"Example: smim tzk images {name} " in " ".join(command("images", name, "--help").out.split())
