"""A small prepared corpus and a small model with random weights, made once for all tests."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import smim
from data_prep import build
from smim import config
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, save_model
from smim.search import Index, build_index
from smim.text.corpus import Corpus
from smim.text.tokenizer import EOS_ID, UNK_ID
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.models import sentence_args

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
def viewed_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings that name the tiny corpus with second views: the sentence of the row before, and a teacher's vector."""
    from smim.teaching import TeachArgs, teach  # with sentence-transformers, which takes seconds
    from tests.teachers import write_teacher

    folder = tmp_path_factory.mktemp("viewed")
    corpus = Corpus.open(tiny_corpus)
    for split in ("train", "valid", "test"):
        texts = corpus.split(split).texts()
        rows = [{"text": text, "other": texts[i - 1]} for i, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    overrides = [
        *("corpus=text", "corpus.name=viewed", "corpus.pair_column=other", f"output={folder / 'corpus'}"),
        *(f"corpus.splits.{split}={folder / split}.jsonl" for split in ("train", "valid", "test")),
        *("corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=1", "prep.workers=1"),
    ]
    build.main(config.compose("build", overrides))
    teacher = write_teacher(folder / "model")
    teach(folder / "corpus", teacher=str(teacher), args=TeachArgs(precision="fp32"))
    return [f"corpus.dir={folder / 'corpus'}", f"corpus.teacher={folder / 'corpus-teacher'}"]


@pytest.fixture(autouse=True)
def _the_same_random_numbers() -> None:
    """What a test draws does not depend on which tests ran before it."""
    torch.manual_seed(0)


def _talkative(vocabulary_size: int, seed: int) -> SentenceAutoencoder:
    """A model with random weights so large that most codes have a decoding of their own: else all decode to nothing."""
    torch.manual_seed(seed)
    args = sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12, max_length=20)
    model = SentenceAutoencoder(args, vocabulary_size=vocabulary_size)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("to_log_variance"):
                parameter *= 3
    return model


@pytest.fixture(scope="session")
def tiny_model(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory for the tiny corpus: 8 latent dimensions, random weights."""
    corpus = Corpus.open(tiny_corpus)
    model = _talkative(corpus.tokenizer.vocabulary_size, seed=0)
    directory = tmp_path_factory.mktemp("runs") / "tiny" / "model"
    save_model(directory, model, corpus.tokenizer, training={"objective": "amim"})
    # What compares decoded sentences checks nothing where all are empty or the same.
    decoded = smim.load(directory, device="cpu").reconstruct(corpus.split("train").texts())
    assert all(decoded) and len(set(decoded)) > 30
    return directory


@pytest.fixture(scope="session")
def asking_model(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory for the words of the tiny corpus and "?", which it likes to say: questions get an answer."""
    texts = Corpus.open(tiny_corpus).split("train").texts()
    tokenizer = WordTokenizer.train([*texts, "?"], splitter="whitespace")
    model = _talkative(tokenizer.vocabulary_size, seed=16)
    with torch.no_grad():
        model.to_vocabulary.bias[tokenizer.encode("?")] += 2
        model.to_vocabulary.bias[EOS_ID] += 3  # what it samples is short, and soon sampled
    directory = tmp_path_factory.mktemp("runs") / "asking" / "model"
    save_model(directory, model, tokenizer, training={"objective": "amim"}, use={"answers": True})
    answering = smim.load(directory, device="cpu")
    decoded, answers = answering.reconstruct(texts), [answering.answer(text) for text in texts]
    assert all(decoded + answers) and min(len(set(decoded)), len(set(answers))) > 25
    return directory


@pytest.fixture(scope="session")
def meaning_model(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory for the tiny corpus, whose codes have a meaning part: 6 of their 24 numbers; random weights."""
    corpus = Corpus.open(tiny_corpus)
    torch.manual_seed(1)
    sizes = {"latent_dim": 24, "hidden_dim": 16, "embedding_dim": 12, "num_layers": 1, "num_heads": 2, "max_length": 20}
    encoder = {"name": "superposition", "meaning": {"dim": 6, "table_dim": 8}}
    args = sentence_args(encoder=encoder, decoder="superposition", tied_output=True, **sizes)
    model = SentenceAutoencoder(args, vocabulary_size=corpus.tokenizer.vocabulary_size)
    with torch.no_grad():
        model.to_vocabulary.bias[EOS_ID] += 0.5  # what it writes ends
    directory = tmp_path_factory.mktemp("runs") / "meaning" / "model"
    save_model(directory, model, corpus.tokenizer, training={"objective": "amim"})
    loaded, texts = smim.load(directory, device="cpu"), corpus.split("train").texts()
    decoded = {literal: loaded.reconstruct(texts, literal=literal, candidates=1) for literal in (1.0, 0.5, 0.0)}
    assert all(len(set(each)) > 20 for each in decoded.values()) and len({*map(tuple, decoded.values())}) == 3
    return directory


@pytest.fixture(scope="session")
def unknowing_model(asking_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The asking model, which would now rather say `<unk>` than anything else."""
    autoencoder, tokenizer, config = load_model(asking_model)
    with torch.no_grad():
        autoencoder.to_vocabulary.bias[UNK_ID] += 20
    directory = tmp_path_factory.mktemp("runs") / "unknowing" / "model"
    save_model(directory, autoencoder, tokenizer, training=config["training"], use={"answers": True})
    return directory


@pytest.fixture(scope="session")
def corpus(tiny_corpus: Path) -> Corpus:
    return Corpus.open(tiny_corpus)


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> SentenceModel:
    return smim.load(tiny_model, device="cpu")


@pytest.fixture
def index(model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path) -> Index:
    """Of the tiny corpus: forty sentences with a label `topic`, ids 0 to 39."""
    return build_index(model, corpus, tmp_path / "index", model_dir=tiny_model)


@pytest.fixture(scope="session")
def odd_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with 407 longer test sentences, in batches that neither two nor three processes share evenly."""
    opened = Corpus.open(tiny_corpus)
    texts, topics = opened.split("train").texts(), opened.split("train").labels("topic")
    long = [f"{texts[i % 40]} {texts[i * 7 % 40]} {texts[i * 11 % 40]} {texts[i * 3 % 40]}" for i in range(407)]
    rows = {
        "train": [{"text": text, "topic": topic} for text, topic in zip(texts, topics, strict=True)],
        "test": [{"text": text, "topic": topics[i % 40]} for i, text in enumerate(long)],
    }
    directory = tmp_path_factory.mktemp("data") / "odd"
    write_corpus(directory, rows, opened.tokenizer, name="odd")
    return directory


@pytest.fixture(scope="session")
def long_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with room for longer sentences, as if it had been trained as sMIM."""
    small, tokenizer, _ = load_model(tiny_model)
    args = replace(small.args, max_length=100)
    model = SentenceAutoencoder(args, vocabulary_size=small.input_size)
    model.load_state_dict(small.state_dict())
    directory = tmp_path_factory.mktemp("runs") / "long" / "model"
    training = {"objective": "amim", "corpus": "tiny", "seed": 0, "step": 0, "epoch": 0, "valid_loss": 0.0}
    save_model(directory, model, tokenizer, training=training)
    return directory


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a test after the argument where the value is bytes: they may hold a time, which pytest-xdist refuses."""
    return argname if isinstance(val, bytes) else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store-golden", action="store_true", help="store the losses that tests/golden lacks")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` downloads or converts goes below the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
