"""A small prepared corpus and a small model with random weights, made once for all tests."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from data_prep import build
from smim import config
from smim.model.autoencoder import ModelArgs, SentenceAutoencoder
from smim.model.directory import save_model
from smim.text.tokenizer import Tokenizer

# A busy machine may be slow, which is no failure.
settings.register_profile("smim", deadline=None)
settings.load_profile("smim")

_ACTORS = ["the company", "a bank", "the old minister", "her brother"]
_ACTS = ["sold", "bought", "wrote about", "never liked", "lost"]
_TOPICS = {"shares": "money", "a small house": "home", "the new law": "politics"}


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty distinct sentences with a label `topic`: 40 train, 10 valid, 10 test, in no order of likeness."""
    rows = [
        {"text": f"{actor} {act} {thing}", "topic": topic}
        for actor, act, (thing, topic) in product(_ACTORS, _ACTS, _TOPICS.items())
    ]
    rows = [rows[i * 7 % 60] for i in range(60)]
    source = tmp_path_factory.mktemp("source")
    for split, part in (("train", rows[:40]), ("valid", rows[40:50]), ("test", rows[50:])):
        (source / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    directory = tmp_path_factory.mktemp("data") / "tiny"
    overrides = [
        *("corpus=text", "corpus.name=tiny", "corpus.label_columns=[topic]", f"output={directory}"),
        *(f"corpus.splits.{split}={source / split}.jsonl" for split in ("train", "valid", "test")),
        *("corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=1", "prep.workers=1"),
    ]
    build.main(config.compose("build", overrides))
    return directory


@pytest.fixture(scope="session")
def tiny_model(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory for the tiny corpus: 8 latent dimensions, random weights."""
    tokenizer = Tokenizer.load(tiny_corpus / "tokenizer")
    torch.manual_seed(0)
    args = ModelArgs(latent_dim=8, hidden_dim=16, embedding_dim=12, max_length=20)
    model = SentenceAutoencoder(args, vocabulary_size=tokenizer.vocabulary_size)
    directory = tmp_path_factory.mktemp("runs") / "tiny" / "model"
    save_model(directory, model, tokenizer, training={"objective": "amim"})
    return directory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store-golden", action="store_true", help="store the losses of tests/golden anew")
