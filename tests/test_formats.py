"""Directories that an earlier version wrote load, give what they gave then, and go on: `fixtures/formats/README.md`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smim
from smim import vector_model
from smim.corpora import open_corpus
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, open_index
from smim.search.latents import Latents
from smim.tzk import TzK, open_tzk
from tests.commands import make_command
from tests.scripts import Script, run_script

FORMATS = Path(__file__).parent / "fixtures" / "formats"
EXPECTED = json.loads(path.read_text()) if (path := FORMATS / "expected.json").exists() else {}

# The models of sentences.
MODELS = ["gru", "transformer", "superposition", "vamp", "pieces"]
INDEXES = ["exact", "graph", "lists"]
# The filters of the searches.
FILTERS: list[dict | None] = [None, {"topic": ["money", "home"], "stars": {"$gte": 3}}]
_SIZES = ["model.latent_dim=8", "model.hidden_dim=8", "model.embedding_dim=8"]
_PARTS = ["num_layers=1", "num_heads=2", "num_pooling_queries=2", "num_memory_tokens=2", "feedforward_dim=8"]
_OPTIMIZER = ["train=adamw", "train.tokens_per_batch=16", "train.warmup_steps=5", "train.ema_decay=0.9"]
_VECTORS = ["model=mlp", "model.hidden_dim=8"]
# The runs: their corpus, and their overrides but for those that all have.
RUNS = {
    "gru_amim": ["sentences", "model=gru", *_SIZES, "objective=amim", "objective.warmup_steps=30"],
    "transformer_vae": [
        *("sentences", "model=transformer", *_SIZES, *(f"model.{part}" for part in _PARTS)),
        *("objective=vae", *_OPTIMIZER),
    ],
    "mlp_mim": ["vectors", *_VECTORS, "objective=mim", "train=vectors", "train.max_steps=72"],
    "mlp_infomax_vae": ["vectors", *_VECTORS, "objective=infomax_vae", "objective.critic_hidden_dim=8"],
}
_OF_ALL_RUNS = ["train.precision=fp32", "train.trackers=[]", "train.max_epochs=3", "train.log_every=3"]
COLUMNS = ["step", "epoch", "split", "loss", "reconstruction", "learning_rate"]


def of_corpus(name: str) -> dict[str, Any]:
    """What stands in each split of a corpus."""
    corpus = open_corpus(FORMATS / "corpora" / name)
    found: dict[str, Any] = {"name": corpus.name, "input_size": corpus.input_size}
    for split in map(corpus.split, ("train", "valid", "test")):
        rows = range(0, len(split), 10)
        found[split.name] = {"rows": len(split), **{each: split.labels(each)[:8] for each in split.label_columns}}
        if name == "vectors":
            found[split.name]["vectors"] = split.vectors[rows].tolist()
        else:
            found[split.name] |= {"texts": split.texts(rows), "ids": [ids.tolist() for ids in split.ids(rows)]}
            assert [corpus.tokenizer.encode(text) for text in split.texts()] == [
                ids.tolist() for ids in split.ids(range(len(split)))
            ]
    return found


def sentence_model(name: str) -> SentenceModel:
    return smim.load(FORMATS / "models" / name, device="cpu")


def queries() -> list[str]:
    return open_corpus(FORMATS / "corpora" / "sentences").split("test").texts(range(4))


def of_sentence_model(name: str) -> dict[str, Any]:
    model = sentence_model(name)
    posterior = model.posterior(queries())
    return {
        "deterministic": model.deterministic,
        "codes": posterior.mean.tolist(),
        "log_variance": posterior.log_variance.tolist(),
        "prior_codes": model.draw_codes(3, None, seed=0).tolist(),
        # What an untrained model goes on with is chance.
        "reconstructions": model.decode(posterior.mean, max_length=12),
    }


def of_vector_model() -> dict[str, Any]:
    model = vector_model.load(FORMATS / "models" / "mlp")
    codes = model.encode(open_corpus(FORMATS / "corpora" / "vectors").split("test").vectors)
    drawn = model.sample(4, seed=0)
    return {"codes": codes.tolist(), "decoded": model.decode(codes).tolist(), "sample": drawn.tolist()}


def opened(name: str, directory: Path = FORMATS / "indexes") -> Index:
    return open_index(directory / name, model=sentence_model("gru"))


def of_index(index: Index) -> dict[str, Any]:
    """For each filter and each query the hits' ids and distances; and the first query's nearest sentence."""
    hits = [each for where in FILTERS for each in index.search(queries(), k=5, where=where)]
    return {
        "count": [len(index), index.count(FILTERS[1])],
        "ids": [[hit.id for hit in found] for found in hits],
        "distances": [[hit.distance for hit in found] for found in hits],
        "nearest": [hits[0][0].text, hits[0][0].labels],
    }


def tzk() -> TzK:
    return open_tzk(FORMATS / "tzk", model=sentence_model("gru"))


def of_tzk() -> dict[str, Any]:
    known = tzk()
    codes = known.model.encode(queries())
    return {
        "labels": known.labels,
        "probabilities": known.classify(queries()).tolist(),
        "log_prob": known.log_prob(codes).tolist(),
        "log_prob_of_label": known.log_prob(codes, "topic=money").tolist(),
    }


def of_report() -> list[list[str]]:
    """The numbers of the model's rows in the comparison's tables."""
    compared = run_script("eval/compare.py", [str(FORMATS / "report")])
    assert compared.returncode == 0, compared.stderr
    rows = [line.split(" | ") for line in compared.stdout.splitlines() if line.startswith("| sMIM (8)")]
    return [[cell.strip("| ") for cell in row[1:]] for row in rows]


def of_run(directory: Path) -> list[list[Any]]:
    """The losses of all log lines, with where they stand."""
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [[line[name] for name in COLUMNS] for line in lines]


def check_numbers(found: dict[str, Any], stored: dict[str, Any], *names: str, atol: float) -> None:
    for name in names:
        np.testing.assert_allclose(found.pop(name), stored[name], rtol=0, atol=atol, err_msg=name)
    assert found == {name: value for name, value in stored.items() if name not in names}


def check_hits(index: Index, stored: dict[str, Any]) -> None:
    check_numbers(of_index(index), stored, "distances", atol=1e-4)


def check_losses(directory: Path, stored: list[list[Any]]) -> None:
    found = of_run(directory)
    assert [line[:3] for line in found] == [line[:3] for line in stored]
    for line, expected in zip(found, stored, strict=True):
        assert line[3:] == pytest.approx(expected[3:], rel=1e-4), line[:3]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the runs, each gone on with to its end."""
    folder = tmp_path_factory.mktemp("runs")
    trainings = {}
    for name, (corpus, *overrides) in RUNS.items():
        shutil.copytree(FORMATS / "runs" / name, folder / name)
        batch = [] if "train.tokens_per_batch=16" in overrides else ["train.batch_size=2"]
        places = [f"corpus.dir={FORMATS / 'corpora' / corpus}", f"run.dir={folder / name}", "train.resume=auto"]
        trainings[name] = Script("smim/train.py", [*places, *overrides, *batch, *_OF_ALL_RUNS])
    for training in trainings.values():
        ended = training.wait()
        assert ended.returncode == 0, ended.stderr
    return {name: folder / name for name in RUNS}


@pytest.mark.parametrize("name", ["sentences", "pieces", "vectors"])
def test_a_corpus_holds_what_it_held(name):
    assert of_corpus(name) == EXPECTED["corpora"][name]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_sentences_gives_the_codes_and_sentences_that_it_gave(name):
    numbers = ["codes", "log_variance", "prior_codes"]
    check_numbers(of_sentence_model(name), EXPECTED["models"][name], *numbers, atol=1e-5)
    corpus = open_corpus(FORMATS / "corpora" / ("pieces" if name == "pieces" else "sentences"))
    assert sentence_model(name).tokenizer.hash == corpus.tokenizer.hash


def test_a_model_of_vectors_gives_the_codes_and_vectors_that_it_gave():
    check_numbers(of_vector_model(), EXPECTED["models"]["mlp"], "codes", "decoded", "sample", atol=1e-5)


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_finds_what_it_found(name):
    check_hits(opened(name), EXPECTED["indexes"][name])


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_is_whole(name, monkeypatch, capsys):
    assert make_command(monkeypatch, capsys)("index", "verify", FORMATS / "indexes" / name).status == 0


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_can_be_changed_further(name, tmp_path):
    shutil.copytree(FORMATS / "indexes" / name, tmp_path / name)
    index, stored = opened(name, tmp_path), EXPECTED["indexes"][name]
    with IndexWriter(tmp_path / name, model=index.model) as writer:
        writer.add(["a bank lost the old minister"], labels={"topic": ["money"], "stars": [4]}, ids=[200])
        [[hit]] = index.search(["a bank lost the old minister"], k=1)
        assert (hit.id, hit.labels) == (200, {"topic": "money", "stars": 4})
        writer.delete([200])
        check_hits(index, stored)
        ids = sorted({id for found in stored["ids"] for id in found})
        rows = index.get(ids)
        writer.compact()
    assert len(index.manifest.segments) == 1
    assert (len(index), index.get(ids)) == (stored["count"][0], rows)


def test_latents_make_the_index_that_they_made(tmp_path):
    corpus, latents = open_corpus(FORMATS / "corpora" / "sentences"), Latents.open(FORMATS / "latents")
    model = FORMATS / "models" / "gru"
    index = build_index(sentence_model("gru"), corpus, tmp_path / "index", model_dir=model, latents=latents)
    check_hits(index, EXPECTED["indexes"]["exact"])


def test_a_label_has_the_probabilities_that_it_had():
    check_numbers(of_tzk(), EXPECTED["tzk"], "probabilities", "log_prob", "log_prob_of_label", atol=1e-4)


def test_a_report_is_compared_with_the_numbers_that_it_had():
    # A table may have come by another column.
    for found, expected in zip(of_report(), EXPECTED["report"], strict=True):
        assert set(expected) <= set(found)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_with_the_losses_of_one_that_was_not_stopped(resumed, name):
    check_losses(resumed[name], EXPECTED["losses"][name])
    # With the times of the lines that were there, it did not begin anew.
    log, before = ((runs / name / "metrics.jsonl").read_text() for runs in (resumed[name].parent, FORMATS / "runs"))
    assert log.startswith(before) and len(before.splitlines()) in (8, 9)
    assert json.loads((resumed[name] / "status.json").read_text())["status"] == "finished"


def test_a_resumed_run_keeps_its_best_model(resumed):
    losses = [line[3] for line in EXPECTED["losses"]["gru_amim"] if line[2] == "valid"]
    assert smim.load(resumed["gru_amim"] / "model").config["training"]["valid_loss"] == pytest.approx(min(losses))
    assert vector_model.load(resumed["mlp_mim"] / "model").latent_dim == 2
