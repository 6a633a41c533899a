"""Settings that are chosen by the corpus, and what a run of them ends with."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from data_prep import build
from smim import config
from smim.errors import UserError
from smim.model.directory import find
from smim.text.corpus import Corpus
from smim.text.tokenizer import Tokenizer
from smim.train import expand
from smim.training import own_small
from smim.training.args import TrainArgs
from tests.corpora import write_corpus
from tests.scripts import run_script
from tests.training.conftest import read_metrics

ENGLISH = "english-small"
NAMES = ["model", "code", "length", "batch", "time"]


@pytest.fixture(scope="module")
def english_corpus(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with the tokenizer of english-small."""
    directory = tmp_path_factory.mktemp("english") / "corpus"
    rows = {name: [{"text": text} for text in corpus.split(name).texts()] for name in ("train", "valid", "test")}
    write_corpus(directory, rows, Tokenizer.load(find(ENGLISH) / "tokenizer"), name="english")
    return directory


def chosen(directory: Path, *overrides: str) -> DictConfig:
    """The configuration of a command line with the experiment."""
    return config.compose("train", expand([own_small.EXPERIMENT, f"corpus.dir={directory}", *overrides]))


def test_a_corpus_with_the_tokenizer_of_english_small_trains_that_model_on(english_corpus, capsys) -> None:
    cfg = chosen(english_corpus)
    assert (cfg.model.init, cfg.objective.second_view.hold, cfg.train.max_minutes) == (ENGLISH, True, 8)
    assert (cfg.train.max_epochs, cfg.train.learning_rate) == (3, 5e-4)
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == NAMES
    assert chosen(english_corpus, "model.init=null").model.init is None
    own = chosen(english_corpus, "model=gru", "model.latent_dim=16").model
    assert (own.init, own.encoder.name, own.latent_dim) == (None, "gru", 16)


def test_another_corpus_trains_a_superposition(tiny_corpus, capsys) -> None:
    cfg = chosen(tiny_corpus)
    assert (cfg.model.init, cfg.model.encoder.name, cfg.model.latent_dim) == (None, "superposition", 512)
    assert (cfg.train.max_length, cfg.train.tokens_per_batch, cfg.train.schedule) == (20, 512, "cosine")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == NAMES and all("because" in line for line in lines)
    config.make(TrainArgs, cfg.train, "train")


@pytest.mark.parametrize(
    "override",
    [
        *("model.latent_dim=64", "train.max_length=7", "train.max_minutes=0.5", "train.max_epochs=2"),
        *("train.tokens_per_batch=77", "train.batch_size=5", "train.schedule=plateau", "run.compare=null"),
    ],
)
def test_what_is_said_goes_before_what_is_chosen(override, tiny_corpus) -> None:
    cfg = chosen(tiny_corpus, override)
    key, _, value = override.partition("=")
    assert OmegaConf.select(cfg, key) == OmegaConf.from_dotlist([f"value={value}"]).value
    config.make(TrainArgs, cfg.train, "train")


def test_of_long_texts_it_says_that_codes_are_of_sentences(corpus, tmp_path, capsys) -> None:
    text = " ".join(corpus.split("train").texts()[:30])
    write_corpus(tmp_path / "long", {"train": [{"text": text}] * 3}, corpus.tokenizer, name="long")
    assert chosen(tmp_path / "long").train.max_length == 60
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("length:")]
    assert "warning" in line and "corpus.split_sentences=true" in line


def test_it_chooses_for_one_corpus_of_sentences(tmp_path) -> None:
    assert expand([own_small.EXPERIMENT, "--cfg", "job"]) == [own_small.EXPERIMENT, "--cfg", "job"]
    with pytest.raises(UserError, match="leave out --multirun"):
        expand([own_small.EXPERIMENT, "--multirun", "corpus.dir=a,b"])
    with pytest.raises(UserError, match="nowhere is not a prepared corpus"):
        expand([own_small.EXPERIMENT, "corpus.dir=nowhere"])
    build.main(config.compose("build", ["corpus=gmm", f"output={tmp_path / 'gmm'}"]))
    with pytest.raises(UserError, match="holds vectors"):
        expand([own_small.EXPERIMENT, f"corpus.dir={tmp_path / 'gmm'}"])


def test_its_training_ends_with_a_comparison_and_without_one_where_that_fails(
    tiny_corpus, tiny_model, tmp_path
) -> None:
    settings = [
        *(own_small.EXPERIMENT, f"corpus.dir={tiny_corpus}", f"run.dir={tmp_path / 'run'}", "train.trackers=[]"),
        *("model.hidden_dim=32", "model.embedding_dim=24", "model.latent_dim=24", "train.precision=fp32"),
    ]
    ended = run_script("smim/train.py", [*settings, f"run.compare={tiny_model}", "train.max_steps=2"])
    assert ended.returncode == 0 and "compare searches" in ended.stderr.partition("finished after 2 steps")[2]
    again = [*settings, "run.compare=nowhere", "train.max_steps=4", "train.resume=auto"]
    failed = run_script("smim/train.py", again)
    assert failed.returncode == 0 and "could not be compared with nowhere" in failed.stderr
    assert [line["step"] for line in read_metrics(tmp_path / "run") if line["split"] == "valid"][-1] == 4


def test_its_configuration_can_be_printed(tiny_corpus) -> None:
    shown = run_script("smim/train.py", [own_small.EXPERIMENT, f"corpus.dir={tiny_corpus}", "--cfg", "job"])
    assert shown.returncode == 0 and "tokens_per_batch: 512" in shown.stdout and "because" in shown.stderr
