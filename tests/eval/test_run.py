"""The evaluation job: the same report on any number of processes, and refusals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from eval import compare
from smim.text.corpus import Corpus
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.training.conftest import BIN, ROOT, environment

LAUNCH_TWO = [
    *(str(BIN / "accelerate"), "launch", "--config_file", "launch/accelerate/cpu.yaml"),
    *("--num_processes", "2", "eval/run.py"),
]


@pytest.fixture(scope="module")
def corpus(tiny_corpus, tmp_path_factory) -> Path:
    """The tiny corpus with 407 test sentences: several batches, a number that two processes cannot share evenly."""
    opened = Corpus.open(tiny_corpus)
    texts = opened.split("train").texts()
    long = [f"{texts[i % 40]} {texts[i * 7 % 40]} {texts[i * 11 % 40]} {texts[i * 3 % 40]}" for i in range(407)]
    directory = tmp_path_factory.mktemp("data") / "odd"
    rows = {"test": [{"text": text} for text in long]}
    write_corpus(directory, rows, opened.tokenizer, name="odd")
    return directory


@pytest.fixture(scope="module")
def long_model(tiny_model, tmp_path_factory) -> Path:
    """The tiny model with room for longer sentences."""
    from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
    from smim.model.directory import load_model, save_model

    small, tokenizer, config = load_model(tiny_model)
    args = ModelArgs(**{**config["model"], "max_length": 100})
    model = SentenceAutoencoder(args, vocabulary_size=small.vocabulary_size)
    model.load_state_dict(small.state_dict())
    directory = tmp_path_factory.mktemp("runs") / "long" / "model"
    training = {"objective": "amim", "seed": 0, "step": 0, "epoch": 0, "valid_loss": 0.0}
    save_model(directory, model, tokenizer, training=training)
    return directory


def evaluate(model: Path, corpus: Path, output: Path, launcher: list[str] | None = None):
    command = [*(launcher or [sys.executable, "eval/run.py"]), f"model.dir={model}", f"corpus.dir={corpus}"]
    command += [f"output={output}", "eval.num_runs=2", "eval.max_length=30"]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)


def test_two_processes_give_the_report_of_one(corpus, long_model, tmp_path):
    assert evaluate(long_model, corpus, tmp_path / "one").returncode == 0
    assert evaluate(long_model, corpus, tmp_path / "two", LAUNCH_TWO).returncode == 0
    one, two = (compare.read_report(tmp_path / name) for name in ("one", "two"))
    assert one["corpus"] == two["corpus"] and one["corpus"]["sentences"] == 407
    assert one["examples"] == two["examples"]
    for name, entry in one["figures"].items():
        tolerance = 1e-4 if name.startswith(("bleu", "exact")) else 1e-5
        assert two["figures"][name]["value"] == pytest.approx(entry["value"], rel=tolerance), name
    assert {"nll", "ppl", "ppl_thesis", "bleu1_sampled", "bleu1_greedy", "kl"} <= set(one["figures"])
    page = (tmp_path / "one" / "report.md").read_text()
    assert "407 sentences" in page and "tokens a sentence" in page
    table = compare.as_table([one, two])
    assert table.count("amim (8)") == 2


def test_a_corpus_of_another_tokenizer_is_refused(long_model, tmp_path):
    tokenizer = WordTokenizer.train(["some other words"], splitter="whitespace")
    rows = {"test": [{"text": "some other words"}]}
    write_corpus(tmp_path / "other", rows, tokenizer, name="other")
    refused = evaluate(long_model, tmp_path / "other", tmp_path / "report")
    assert refused.returncode == 2 and "prepared for another tokenizer" in refused.stderr
    assert not (tmp_path / "report").exists()


def test_a_model_with_nan_weights_is_refused(corpus, long_model, tmp_path):
    broken = tmp_path / "model"
    shutil.copytree(long_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["to_mean.bias"][0] = float("nan")
    save_file(weights, broken / "model.safetensors")
    refused = evaluate(broken, corpus, tmp_path / "report")
    assert refused.returncode == 2 and "NaN" in refused.stderr


def test_the_report_replaces_an_older_one_whole(corpus, long_model, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "stale.txt").write_text("")
    assert evaluate(long_model, corpus, tmp_path / "report").returncode == 0
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.json", "report.md"]
    assert json.loads((tmp_path / "report" / "report.json").read_text())["settings"]["num_runs"] == 2
