"""What somebody hands over is refused in one message, or answers; it never hangs, crashes, or reaches outside."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from smim.evaluation.judge import make as make_judge
from smim.generation import SentenceModel, load
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import save_model
from smim.model.mlp import VectorAutoencoder
from smim.search.build import build_index, index_texts
from smim.search.encode import EncodeArgs, encode_corpus
from smim.teaching import TeachArgs, teach
from smim.text.corpus import Corpus
from smim.text.pieces import SentencePieceTokenizer
from smim.tzk import FitArgs, KnowledgeArgs, PriorArgs, fit_tzk
from tests.corpora import write_corpus
from tests.models import sentence_args, vector_args
from tests.scripts import ROOT, run_script
from tests.teachers import write_teacher

KINDS = ["index", "model", "corpus", "latents", "teacher", "tzk", "judge"]


@pytest.fixture(scope="session")
def material(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real directories of each kind, `KIND*`, to be changed."""
    directory = tmp_path_factory.mktemp("material")
    shutil.copytree(tiny_model, directory / "model")
    shutil.copytree(tiny_corpus, directory / "corpus")
    model, corpus = load(directory / "model", device="cpu"), Corpus.open(directory / "corpus")
    _add_models(directory, corpus)
    (directory / "text.txt").write_text("\n".join(corpus.split("train").texts()))
    make_judge([directory / "text.txt"], directory / "judge", vocabulary_size=290)
    graph = "HNSW4,SQfp16"
    for name, factory in {
        "index": "Flat",
        "index_graph": graph,
        "index_equals": graph,
        "index_lists": "IVF2,Flat",
    }.items():
        _add_index(directory, model, corpus, name, factory)
    encode_corpus(directory / "model", directory / "corpus", directory / "latents", args=EncodeArgs(
        rows_per_shard=16, log_variance=True))  # fmt: skip
    teacher = write_teacher(directory / "static")
    teach(directory / "corpus", teacher=str(teacher), output=directory / "teacher", args=TeachArgs(rows_per_shard=16))
    fit = FitArgs(num_optimizer_steps=10)
    tzk = fit_tzk(model, corpus, directory / "tzk", model_dir=directory / "model",
                  args=PriorArgs(num_coupling_layers=2, hidden_dim=8), fit=fit)  # fmt: skip
    tzk.add(corpus, "topic=home", args=KnowledgeArgs(code_dim=2, num_coupling_layers=2, hidden_dim=8), fit=fit)
    return directory


@pytest.fixture(scope="session")
def material_of_run(material: Path) -> Path:
    """With a run of two steps beside them."""
    directory = material
    settings = [
        *(f"corpus.dir={directory / 'corpus'}", "model.latent_dim=8", "model.hidden_dim=16", "model.embedding_dim=12"),
        *("train.batch_size=8", "train.precision=fp32", "train.trackers=[]", "train.ema_decay=0.9"),
        *("train.checkpoint_every=1", "train.keep_checkpoints=1"),
    ]
    done = run_script("smim/train.py", [*settings, "train.max_steps=2", f"run.dir={directory / 'run'}"])
    assert done.returncode == 0, done.stderr
    (directory / "run.json").write_text(json.dumps([*settings, "train.max_steps=3", "train.resume=auto"]))
    return directory


def _add_models(directory: Path, corpus: Corpus) -> None:
    texts = corpus.split("train").texts()
    pieces = SentencePieceTokenizer.train(texts, algorithm="bpe", vocabulary_size=330)
    rows = {"train": [{"text": text, "topic": "home"} for text in texts]}
    write_corpus(directory / "corpus_pieces", rows, pieces, name="pieces")
    pairs = {"train": [{"text": text, "pair_text": other} for text, other in pairwise(texts)]}
    write_corpus(directory / "corpus_pairs", pairs, corpus.tokenizer, name="pairs")
    small = {"hidden_dim": 16, "embedding_dim": 16, "latent_dim": 16, "num_layers": 1, "num_heads": 2}
    for kind in ("transformer", "superposition"):
        args = sentence_args(encoder=kind, decoder=kind, tied_output=True, **small)  # type: ignore[arg-type]
        model = SentenceAutoencoder(args, vocabulary_size=pieces.vocabulary_size)
        save_model(directory / f"model_{kind}", model, pieces, training={"objective": "amim"})
    vectors = VectorAutoencoder(vector_args(prior="gaussian_mixture", num_prior_components=3), dimension=2)
    save_model(directory / "model_vectors", vectors, None, training={"objective": "amim"})


def _add_index(directory: Path, model: SentenceModel, corpus: Corpus, name: str, factory: str) -> None:
    from smim.search import IndexWriter

    given: dict[str, Any] = {"model_dir": directory / "model", "factory": factory}
    if name == "index_equals":  # each vector is shared by two rows
        texts, topics = corpus.split("train").texts() * 2, corpus.split("train").labels("topic") * 2
        index_texts(model, texts, directory / name, labels={"topic": topics}, **given)
    else:
        build_index(model, corpus, directory / name, **given)
    with IndexWriter(directory / name, model=model) as writer:
        writer.delete([3, 4])
        writer.add(["a bank sold shares"])


def outcomes(kind: str, material: Path, first: int, count: int) -> list[dict]:
    command = [sys.executable, "tests/hostile.py", kind, str(material), str(first), str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(cases: list[dict]) -> list[dict]:
    return [case for case in cases if not case["outcome"].startswith(("refused", "answers"))]


def test_directories_that_were_tampered_with_are_refused_or_answer(material: Path) -> None:
    cases = outcomes(",".join(KINDS), material, 0, 5)
    assert len(cases) == 5 * len(KINDS) and not wrong(cases)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "run"])
def test_hundreds_that_were_tampered_with_are_refused_or_answer(kind: str, material_of_run: Path) -> None:
    cases = outcomes(kind, material_of_run, 1000, int(os.environ.get("SMIM_HOSTILE", 120)))
    counts = Counter(case["outcome"].partition(":")[0] for case in cases)
    print(f"{kind}: {len(cases)} cases, " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    assert not wrong(cases)
