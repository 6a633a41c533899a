"""`smim tzk ...` on the tiny model and corpus."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import smim
from smim.text.corpus import Corpus
from smim.tzk import FitArgs, KnowledgeArgs, PriorArgs, fit_tzk, open_tzk
from smim.tzk.labelled import LabelledPrior
from tests.commands import Command, make_command
from tests.corpora import write_corpus

FAST = ["--num-optimizer-steps", 10, "--num-coupling-layers", 2, "--hidden-dim", 8]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return make_command(monkeypatch, capsys, "tzk")


@pytest.fixture(scope="module")
def tzk(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With topic=home and topic=money, of as many updates as `FAST`."""
    directory, corpus, fit = (
        tmp_path_factory.mktemp("tzk") / "tiny",
        Corpus.open(tiny_corpus),
        FitArgs(num_optimizer_steps=10),
    )
    args = PriorArgs(num_coupling_layers=2, hidden_dim=8)
    made = fit_tzk(smim.load(tiny_model), corpus, directory, model_dir=tiny_model, args=args, fit=fit)
    for label in ("topic=home", "topic=money"):
        made.add(corpus, label, args=KnowledgeArgs(num_coupling_layers=2, hidden_dim=8), fit=fit)
    return directory


def test_labels_are_added_to_what_was_fitted(
    command: Command, tzk: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "tzk"
    fitted = command("fit", tiny_model, tiny_corpus, "-o", directory, *FAST)
    assert fitted.status == 0 and fitted.out.startswith(f"{directory}: p(t) of 40 sentences, ")
    added = command("add", directory, tiny_corpus, "--label", "topic=home", "--label", "topic=money", *FAST)
    assert added.out == "topic=home: 32.5% of tiny train\ntopic=money: 35.0% of tiny train\n"
    for file in ("prior.safetensors", "labels/topic=money/knowledge.safetensors"):
        assert (directory / file).read_bytes() == (tzk / file).read_bytes()


def test_commands_print_what_the_library_says(command: Command, tzk: Path, tiny_corpus: Path) -> None:
    opened, text = open_tzk(tzk), "a bank lost shares"
    labels = ["topic=home", "topic=money"]
    options = ["--label", labels[0], "--label", labels[1]]
    assert command("sample", tzk, "--num", 2).out.splitlines() == opened.sample(2)
    assert command("sample", tzk, *options, "--num", 2, "--seed", 4).out.splitlines() == opened.sample(
        2, labels, seed=4
    )
    assert command("sample", tzk, *options, "--num", 2, "--gibbs-steps", 3).out.splitlines() == opened.sample(
        2, labels, gibbs_steps=3
    )
    texts = [text, "the child sat at home", text, text]
    grid = opened.interpolate(texts, 2)
    assert command("interpolate", tzk, *texts, "--num", 2).out.splitlines() == [each for row in grid for each in row]
    [home, money] = opened.classify([text])[0].tolist()
    expected = [[f"{p:.3f}", label, text] for p, label in sorted([(home, labels[0]), (money, labels[1])], reverse=True)]
    assert command("classify", tzk, text).cells == expected
    found = json.loads(command("classify", tzk, text, "--label", labels[1], "--json").out)
    assert found == {"sentences": [{"text": text, "labels": {labels[1]: pytest.approx(money)}}]}


def test_rank_shows_the_sentences_with_their_labels(command: Command, tzk: Path, tiny_corpus: Path) -> None:
    corpus = Corpus.open(tiny_corpus)
    test = corpus.split("test")
    ranked = open_tzk(tzk).rank(corpus, ["topic=home"], 3)
    expected = [
        [str(i), f"{each.probability:.3f}", test.texts([each.row])[0], test.labels("topic")[each.row]]
        for i, each in enumerate(ranked, 1)
    ]
    assert command("rank", tzk, tiny_corpus, "--label", "topic=home", "-k", 3).cells == expected
    found = json.loads(command("rank", tzk, tiny_corpus, "--label", "topic=home", "-k", 3, "--json").out)
    assert [each["row"] for each in found["ranked"]] == [each.row for each in ranked]


def test_rank_leaves_the_cell_of_a_label_without_a_value_empty(
    command: Command, tzk: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    rows = [{"text": "a bank sold shares", "topic": None}]
    write_corpus(tmp_path / "null", {"test": rows}, Corpus.open(tiny_corpus).tokenizer, name="null")
    [cells] = command("rank", tzk, tmp_path / "null", "--label", "topic=home").cells
    assert cells[2:] == ["a bank sold shares", ""]


def test_label_columns_of_a_corpus_do_not_replace_results(command: Command, tzk: Path, tmp_path: Path) -> None:
    tokenizer = open_tzk(tzk).model.tokenizer
    own = {"probability": "high", "row": "7", "rank": "last"}
    write_corpus(tmp_path / "odd", {"test": [{"text": "a bank sold shares", **own}]}, tokenizer, name="odd")
    words = ["rank", tzk, tmp_path / "odd", "--label", "topic=home"]
    [ranked] = json.loads(command(*words, "--json").out)["ranked"]
    assert ranked == {
        "row": 0,
        "probability": pytest.approx(0.5, abs=0.5),
        "text": "a bank sold shares",
        "columns": own,
    }
    [cells] = command(*words).cells
    assert cells == ["1", f"{ranked['probability']:.3f}", "a bank sold shares", *own.values()]


def test_options_of_fit_and_add_reach_the_training(
    command: Command, tzk: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def learn(_: object, source: object, label: str, args: KnowledgeArgs, fit: FitArgs) -> SimpleNamespace:
        given["add"] = (args, fit)
        return SimpleNamespace(frequency=0.5)

    monkeypatch.setattr(LabelledPrior, "_learn", learn)
    monkeypatch.setattr("smim.tzk.model.fit_to", lambda *_, knowledge, fit, **__: given.update(fit=(knowledge, fit)))
    monkeypatch.setattr("smim.tzk.model.open_tzk", lambda *_, **__: open_tzk(tzk))
    options = ["--label", "topic=politics", "--batch-size", 7, "--code-dim", 3, "--num-code-layers", 2, "--draw-t"]
    assert command("add", tzk, tiny_corpus, *options).status == 0
    assert command("fit", tiny_model, tiny_corpus, "-o", tmp_path / "new", *options).status == 0
    expected = (KnowledgeArgs(code_dim=3, num_code_layers=2), FitArgs(batch_size=7, draw_t=True))
    assert given == {"add": expected, "fit": expected}


def test_second_label_that_cannot_be_learned_is_refused_before_the_first_is(
    command: Command, tzk: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    tzk = shutil.copytree(tzk, tmp_path / "tzk")
    refused = command("add", tzk, tiny_corpus, "--label", "topic=politics", "--label", "topic=law", *FAST)
    assert refused.status == 2 and "have topic=law" in refused.err
    assert "topic=politics" not in open_tzk(tzk).labels


def test_report_judges_each_label_and_those_given_together(command: Command, tzk: Path, tiny_corpus: Path) -> None:
    options = ["--num", 20, "--split", "train"]
    found = json.loads(command("report", tzk, tiny_corpus, *options, "--json").out)["labels"]
    assert [each["labels"] for each in found] == [["topic=home"], ["topic=money"]]
    for each in found:
        assert set(each["codes"]) == {"unconditioned", "samples", "reconstructions", "sentences"}
        nll = {name: estimate["value"] for name, estimate in each["nll"].items()}
        assert set(nll) == {"gaussian", "prior", "label_gaussian", "label", "gain", "one_code"}
        assert nll["gain"] == pytest.approx(nll["prior"] - nll["label"])
        assert nll["one_code"] != nll["label"] and nll["one_code"] == pytest.approx(nll["label"], abs=1)
    train = Corpus.open(tiny_corpus).split("train")
    home = np.array(train.labels("topic")) == "home"
    probability = open_tzk(tzk).classify(train.texts(), ["topic=home"])[:, 0]
    assert found[0]["auc"] == pytest.approx(np.mean(probability[home][:, None] > probability[~home]))
    # The words of the tiny corpus tell its topics.
    assert found[0]["words"]["sentences"] == {"value": 1.0, "standard_error": 0.0}
    shown = command("report", tzk, tiny_corpus, *options, "--label", "topic=home", "--label", "topic=money").cells
    assert [cells[:2] for cells in shown[:6]] == [
        [label, by] for label in ("topic=home", "topic=money", "topic=home topic=money") for by in ("codes", "words")
    ]
    assert shown[0][5] == "{value:.3f} ± {standard_error:.3f}".format(**found[0]["codes"]["sentences"])
    assert shown[5][4:] == ["", ""]  # no sentence has two topics


def test_what_is_there_is_replaced_only_with_force(
    command: Command, tzk: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    tzk = shutil.copytree(tzk, tmp_path / "tzk")
    for words in (
        ["add", tzk, tiny_corpus, "--label", "topic=home", *FAST],
        ["fit", tiny_model, tiny_corpus, "-o", tzk, *FAST],
    ):
        refused = command(*words)
        assert refused.status == 2 and "with --force" in refused.err
        assert command(*words, "--force").status == 0
    assert open_tzk(tzk).labels == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "nowhere"], "nowhere holds no TzK (no tzk.json in it); make one with `smim tzk fit"),
        (["sample", "TZK", "--label", "topic=homes"], "has no label topic=homes; did you mean 'topic=home'"),
        (["sample", "TZK", "--label", "home"], "'home' is no label; write column=value"),
        (["sample", "TZK", "--num", "0"], "num is 0, but it must be a whole number of at least 1"),
        (["classify", "TZK", "zyzzyva"], "has no word of"),
        (["rank", "TZK", "CORPUS"], "give at least one label to rank by"),
        (["rank", "TZK", "CORPUS", "--label", "topic=home", "--split", "tset"], "did you mean 'test'"),
        (["add", "TZK", "CORPUS", "--label", "topik=home"], "has no label column 'topik'; did you mean 'topic'"),
        (["add", "TZK", "CORPUS", "--label", "topic=law"], "no sentences of the split 'train' have topic=law"),
        (["add", "TZK", "nowhere", "--label", "topic=law"], "nowhere is not a prepared corpus"),
        (
            ["add", "TZK", "CORPUS", "--label", "topic=politics", "--num-optimizer-steps", "1"],
            "fit.num_optimizer_steps is 1",
        ),
        (["fit", "MODEL", "CORPUS", "-o", "NEW", "--code-dim", "2"], "settings of labels"),
        (["fit", "MODEL", "CORPUS", "-o", "NEW", "--draw-t"], "settings of labels"),
        (["sample", "TZK", "--gibbs-steps", "5"], "block Gibbs sampling needs a label"),
        (["sample", "TZK", "--seed", "-1"], "the seed is -1"),
        (["fit", "MODEL", "CORPUS", "-o", "NEW", "--latents", "TZK"], "is not a latents directory"),
        (["report", "TZK", "CORPUS", "--num", "1"], "num is 1, but it must be a whole number of at least 2"),
        (["sample", "TZK", "--model", "LONG_MODEL"], "was learned from the codes of another model"),
    ],
)
def test_wrong_requests_are_refused(
    command: Command,
    tzk: Path,
    tiny_model: Path,
    tiny_corpus: Path,
    long_model: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    places = {"TZK": tzk, "CORPUS": tiny_corpus, "MODEL": tiny_model, "LONG_MODEL": long_model, "NEW": tmp_path / "new"}
    refused = command(*[places.get(word, word) for word in words])
    assert (refused.status, refused.out) == (2, "") and message in refused.err
    assert refused.err.count("\n") == 1


def test_model_that_was_moved_is_given_with_an_option(
    command: Command, tzk: Path, tiny_model: Path, tmp_path: Path
) -> None:
    tzk = shutil.copytree(tzk, tmp_path / "tzk")
    card = json.loads((tzk / "tzk.json").read_text())
    (tzk / "tzk.json").write_text(json.dumps({**card, "model": str(tmp_path / "gone")}))
    refused = command("sample", tzk)
    assert refused.status == 2 and "--model" in refused.err
    assert command("sample", tzk, "--model", tiny_model).out.splitlines() == open_tzk(
        tzk, model=smim.load(tiny_model)
    ).sample(5)


def test_help_of_classify_does_not_say_that_all_labels_must_hold(command: Command) -> None:
    for name in (["classify"], ["images", "classify"], ["images", "report"]):
        assert "all must hold" not in " ".join(command(*name, "--help").out.split())


@pytest.mark.parametrize("name", ["fit", "add", "sample", "interpolate", "classify", "rank", "report"])
def test_every_command_has_an_example_in_its_help(command: Command, name: str) -> None:
    assert f"Example: smim tzk {name} " in " ".join(command(name, "--help").out.split())
