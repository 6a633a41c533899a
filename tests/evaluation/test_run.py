"""The evaluation job: the same report on any number of processes, what it goes on from, and refusals."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import smim
from eval import compare
from smim import config
from smim.errors import SmimError, UserError
from smim.evaluation import run
from smim.evaluation.examples import ExamplesArgs
from smim.evaluation.groups import BY_DEFAULT, GROUPS
from smim.evaluation.run import EvalArgs
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, save_model
from smim.text.corpus import CARD, Corpus
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.scripts import run_script

QUICK = [
    *("eval.num_runs=2", "eval.max_length=30", "eval.likelihood.importance_samples=20"),
    *("eval.likelihood.importance_sentences=7", "eval.information.mmd_samples=200"),
]


def overrides(model: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    return [f"model.dir={model}", f"corpus.dir={corpus}", f"output={output}", *QUICK, *more]


def evaluate(*given: Path | str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    return run_script("eval/run.py", overrides(*given), processes=processes, timeout=200)


def evaluate_here(model: Path, corpus: Path, output: Path, *more: str) -> dict:
    run.main(config.compose("evaluate", overrides(model, corpus, output, *more)))
    return compare.read_report(output)


def saved_anew(model_dir: Path, directory: Path, change: Callable[[SentenceAutoencoder], object]) -> Path:
    """A model like another one, but for what `change` does to its weights."""
    model, tokenizer, described = load_model(model_dir)
    with torch.no_grad():
        change(model)
    save_model(directory, model, tokenizer, training=described["training"])
    return directory


@pytest.fixture(scope="module")
def report(odd_corpus, long_model, tmp_path_factory) -> dict:
    """The whole evaluation on one process."""
    return evaluate_here(long_model, odd_corpus, tmp_path_factory.mktemp("report") / "one", "eval=thesis")


def assert_same(one: dict, other: dict) -> None:
    assert one["corpus"] == other["corpus"] and one["metrics"].keys() == other["metrics"].keys()
    for name, entry in one["metrics"].items():
        tolerance = 1e-4 if name.startswith(("bleu", "exact", "word", "knn")) else 1e-5
        expected = pytest.approx(entry["value"], rel=tolerance, abs=1e-6)
        assert other["metrics"][name]["value"] == expected, name
    for name, section in one["sections"].items():
        assert section["notes"] == other["sections"][name]["notes"]


@pytest.mark.parametrize(("num_processes", "tokens_per_batch"), [(2, 8192), (3, 301)])
def test_any_number_of_processes_and_any_batches_give_the_same_report(
    report, odd_corpus, long_model, tmp_path, num_processes, tokens_per_batch
):
    more = ["eval=thesis", f"eval.tokens_per_batch={tokens_per_batch}"]
    finished = evaluate(long_model, odd_corpus, tmp_path / "report", *more, processes=num_processes)
    assert finished.returncode == 0, finished.stderr
    other = compare.read_report(tmp_path / "report")
    assert other["processes"] == num_processes and other["corpus"]["sentences"] == 407
    assert_same(report, other)


def test_more_processes_than_sentences_and_fewer_sentences_than_neighbours(odd_corpus, long_model, tmp_path):
    more = ["eval=thesis", "eval.max_sentences=1", "eval.metrics=[likelihood,reconstruction,information,overlap]"]
    finished = evaluate(long_model, odd_corpus, tmp_path / "report", *more, processes=2)
    assert finished.returncode == 0, finished.stderr
    report = compare.read_report(tmp_path / "report")
    assert report["metrics"]["nll_train_prior"]["n"] == 1 and "latent_entropy" not in report["metrics"]
    assert any("No entropy" in note for note in report["sections"]["information"]["notes"])


def test_training_sentences_are_not_judged_by_themselves(odd_corpus, long_model, tmp_path):
    more = ["eval=thesis", "eval.split=train", "eval.max_sentences=20", "eval.metrics=[likelihood,representation]"]
    metrics = evaluate_here(long_model, odd_corpus, tmp_path / "report", *more)["metrics"]
    assert "nll" in metrics and "nll_train_prior" not in metrics
    assert not [name for name in metrics if name.startswith("knn_accuracy")]


def test_what_was_answered_of_other_questions_is_not_used(odd_corpus, long_model, tiny_corpus, tmp_path):
    args = EvalArgs(metrics=["examples"], examples=ExamplesArgs(question_corpus=str(tmp_path / "questions")))
    shutil.copytree(tiny_corpus, tmp_path / "questions")
    model, corpus = smim.load(long_model), Corpus.open(odd_corpus)
    before = run._identity(model, corpus, args)
    card = json.loads((tmp_path / "questions" / CARD).read_text())
    (tmp_path / "questions" / CARD).write_text(json.dumps(card | {"name": "others"}))
    assert run._identity(model, corpus, args) != before


def test_the_thesis_evaluation_holds_every_group_that_needs_no_text_of_its_own(report):
    assert list(report["sections"]) == BY_DEFAULT
    assert report["model"]["architecture"] == "gru" and report["verdict"]["kind"] == "other_text"
    assert len(report["sections"]["reconstruction"]["samples"]["rows"]) == 5
    expected = {"nll", "ppl", "ppl_thesis", "nll_elbo", "nll_iw", "nll_train_prior", "bleu1_sampled", "bleu1_mean"}
    expected |= {"latent_entropy", "mutual_information", "kl", "mmd", "overlap_auc_p", "overlap_auc_q"}
    assert expected | {"knn_accuracy:topic"} <= set(report["metrics"])
    assert all(entry["n"] > 0 and entry["seed"] == 0 for entry in report["metrics"].values())
    for name in ("bleu1_sampled", "bleu1_greedy", "bleu1_mean", "bleu4_corpus_greedy", "word_accuracy_greedy"):
        assert report["metrics"][name]["value"] > 0, name


def test_a_killed_job_goes_on_behind_its_last_group(odd_corpus, long_model, tmp_path, monkeypatch, report):
    def fail(*_: object) -> None:
        raise SmimError("killed")

    with monkeypatch.context() as patch:
        patch.setitem(GROUPS, "information", replace(GROUPS["information"], evaluate=fail))
        with pytest.raises(SmimError, match="information: killed"):
            evaluate_here(long_model, odd_corpus, tmp_path / "report", "eval=thesis")
    assert not (tmp_path / "report").exists()
    monkeypatch.setitem(GROUPS, "likelihood", replace(GROUPS["likelihood"], evaluate=fail))  # is not called again
    assert_same(report, evaluate_here(long_model, odd_corpus, tmp_path / "report", "eval=thesis"))
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_what_a_job_with_other_settings_left_is_not_used(odd_corpus, long_model, tmp_path):
    work = tmp_path / ".report.work"
    work.mkdir()
    (work / "identity.json").write_text('{"makes": "a report"}')
    (work / "reconstruction.json").write_text("{}")
    only = ["eval.metrics=[reconstruction]", "eval.seed=1"]
    made = evaluate_here(long_model, odd_corpus, tmp_path / "report", *only)
    assert made["metrics"]["bleu1_greedy"]["seed"] == 1


def test_a_corpus_of_another_tokenizer_is_encoded_anew_where_that_is_asked_for(long_model, odd_corpus, tmp_path):
    tokenizer = WordTokenizer.train(["some other words the company"], splitter="whitespace")
    rows = {"test": [{"text": "the company sold other words"}, {"text": "a bank lost shares"}]}
    write_corpus(tmp_path / "other", rows, tokenizer, name="other")
    refused = evaluate(long_model, tmp_path / "other", tmp_path / "report")
    assert refused.returncode == 2 and "corpus.retokenize=true" in refused.stderr
    assert not (tmp_path / "report").exists()
    only = ["corpus.retokenize=true", "eval.metrics=[likelihood,reconstruction]"]
    made = evaluate_here(long_model, tmp_path / "other", tmp_path / "report", *only)
    assert made["corpus"]["retokenized"] and made["corpus"]["tokens"] == 9
    assert made["corpus"]["unknown_share"] == pytest.approx(2 / 9)  # "other" and "words"


def test_fewer_sentences_are_a_sample_of_the_split(long_model, odd_corpus, tmp_path):
    only = ["eval.metrics=likelihood", "eval.max_sentences=50", "eval.likelihood.importance_samples=0"]
    made = evaluate_here(long_model, odd_corpus, tmp_path / "report", *only)
    assert made["corpus"]["sentences"] == 50 and made["metrics"]["nll"]["n"] == 50


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("to_vocabulary.weight", "likelihood: the metric 'reconstruction' came out as nan"),
        ("to_mean.weight", "likelihood: the posterior"),
    ],
)
def test_nan_in_the_model_is_an_error_that_names_the_metric(odd_corpus, long_model, tmp_path, weights, message):
    def break_weights(model):
        model.get_parameter(weights).fill_(3e38)  # finite, but what is computed with it is not

    broken = saved_anew(long_model, tmp_path / "model", break_weights)
    with pytest.raises(SmimError, match=message):
        evaluate_here(broken, odd_corpus, tmp_path / "report", "eval.metrics=[likelihood]")
    assert not (tmp_path / "report").exists()


def test_nan_weights_are_refused(odd_corpus, long_model, tmp_path):
    broken = saved_anew(long_model, tmp_path / "model", lambda model: model.to_mean.bias[0].fill_(float("nan")))
    refused = evaluate(broken, odd_corpus, tmp_path / "report")
    assert refused.returncode == 2 and "NaN" in refused.stderr


def test_the_report_replaces_an_older_one_whole(odd_corpus, long_model, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text("{}")
    (tmp_path / "report" / "stale.txt").write_text("")
    evaluate_here(long_model, odd_corpus, tmp_path / "report", "eval.metrics=[reconstruction]")
    names = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert names == ["plots", "report.html", "report.json", "report.md"]
    assert json.loads((tmp_path / "report" / "report.json").read_text())["settings"]["num_runs"] == 2


def test_a_directory_that_is_no_report_is_left_alone(odd_corpus, long_model, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "precious.txt").write_text("kept")
    with pytest.raises(UserError, match="exists and is not a report"):
        evaluate_here(long_model, odd_corpus, tmp_path / "report", "eval.metrics=[reconstruction]")
    assert (tmp_path / "report" / "precious.txt").read_text() == "kept"


def test_wrong_settings_are_refused_together():
    with pytest.raises(UserError, match=r"eval\.num_runs.*no 'likelyhood'; did you mean 'likelihood'"):
        EvalArgs(num_runs=0, metrics=["likelyhood"])


def test_a_wrong_corpus_of_questions_is_told_before_anything_is_computed(odd_corpus, long_model, tmp_path):
    with pytest.raises(UserError, match=r"eval\.answering\.corpus.*has no column"):
        evaluate_here(long_model, odd_corpus, tmp_path / "report", f"eval.answering.corpus={odd_corpus}", "eval=thesis")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["thesis", "language_modelling"])
def test_the_configurations_are_whole(name):
    composed = config.compose("evaluate", [f"eval={name}"])
    assert config.make(EvalArgs, composed.eval, "eval")
    assert set(composed.eval) == set(EvalArgs.__dataclass_fields__)
