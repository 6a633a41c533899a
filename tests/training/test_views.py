"""Trainings of corpora with a teacher's vectors or pairs: whose run it is, and what is refused before it begins."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator

from smim import config, storage
from smim.corpora import open_corpus
from smim.errors import UserError
from smim.objectives import objective_class
from smim.preparation.args import CorpusArgs
from smim.preparation.build import build_vectors
from smim.teaching import TeachArgs, teach
from smim.text.batch import collate
from smim.text.corpus import Split
from smim.training import checkpoint
from smim.training.args import TrainArgs
from smim.training.checks import check_random_sentences
from smim.training.graphs import _batch, _tensors
from smim.training.run import Run
from tests.models import sentence_args
from tests.teachers import write_teacher
from tests.training.conftest import Train

FP32 = TeachArgs(precision="fp32")


@pytest.fixture(scope="module")
def taught(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny corpus by two teachers."""
    folder = tmp_path_factory.mktemp("taught")
    models = [write_teacher(folder / f"model-{seed}", seed=seed) for seed in range(2)]
    return [teach(tiny_corpus, teacher=str(each), output=folder / f"of-{each.name}", args=FP32) for each in models]


def test_a_run_goes_on_with_its_own_teacher_alone(taught: list[Path], tiny_corpus: Path, tmp_path: Path) -> None:
    def run(teacher: Path | None, resume: str) -> Run:
        corpus = open_corpus(tiny_corpus, teacher=teacher)
        args = TrainArgs(batch_size=8, precision="fp32", trackers=[], resume=resume)
        settings = (sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12), objective_class("amim")(), args)
        return Run(corpus, *settings, accelerator=Accelerator(cpu=True), run_dir=tmp_path)

    begun = run(taught[0], "never")
    begun.step = 5
    begun.save()
    assert run(taught[0], "auto").step == 5
    [saved] = checkpoint.list_checkpoints(tmp_path / "checkpoints")
    hash = storage.read_json(saved / "state.json")["identity"]["corpus.teacher"]
    for other, value in ((taught[1], ".*"), (None, "unset")):
        with pytest.raises(UserError, match=rf"corpus\.teacher: {hash} there, {value} here"):
            run(other, "auto")


def test_training_takes_a_teacher_and_says_what_is_wrong_with_one(
    train: Train, taught: list[Path], tiny_corpus: Path, tmp_path: Path
) -> None:
    finished = train(f"corpus.teacher={taught[0]}", "train.max_epochs=1")
    assert finished.returncode == 0, finished.stderr
    *_, saved = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")
    assert "corpus.teacher" in storage.read_json(saved / "state.json")["identity"]
    refused = train(f"corpus.teacher={tiny_corpus}", f"run.dir={tmp_path / 'other'}")
    assert refused.returncode == 2 and "holds no teacher's vectors (no teacher.json in it)" in refused.stderr


def test_vectors_have_no_teacher_and_preparation_takes_none(taught: list[Path], tmp_path: Path) -> None:
    sizes = [f"corpus.{split}=20" for split in ("train", "valid", "test")]
    build_vectors(config.compose("build", ["corpus=gmm", *sizes]).corpus, tmp_path / "gmm")
    with pytest.raises(UserError, match=r"corpus\.teacher=.* is for sentences, but .*gmm holds vectors"):
        open_corpus(tmp_path / "gmm", teacher=taught[0])
    assert config.compose("train", ["corpus=ptb", "corpus.teacher=x"]).corpus.teacher == "x"
    with pytest.raises(UserError, match=r"corpus\.teacher is for training"):
        CorpusArgs(builder="ptb", name="ptb", dir="data/ptb", teacher="x")


@pytest.mark.parametrize("without", [(), ("view",), ("pair",), ("view", "pair")])
def test_a_graph_is_given_all_that_a_batch_holds(without: tuple[str, ...]) -> None:
    pair = collate([[7, 8], [9]], rows=[3, 4])
    batch = replace(collate([[5], [6]], rows=[3, 4]), view=torch.randn(2, 3), pair=pair)
    batch = replace(batch, **dict.fromkeys(without)).padded_to(4)
    given = _batch(*_tensors(batch))
    for name in ("rows", "tokens", "lengths", "view"):
        torch.testing.assert_close(getattr(given, name), getattr(batch, name))
    assert (given.pair is None) == (batch.pair is None) and given.fixed_shape
    if given.pair is not None:
        assert given.pair.tokens.tolist() == [[7, 8, 0, 0], [9, 0, 0, 0]]
        assert (given.pair.lengths.tolist(), given.pair.rows.tolist()) == ([2, 1], [3, 4])


def test_a_pair_that_is_longer_than_the_model_takes_is_refused() -> None:
    lists = pa.list_(pa.int32())
    table = {"length": pa.array([2], pa.int32()), "pair_ids": pa.array([[5, 6, 7, 8]], lists)}
    split = Split("train", pa.table(table))
    sentence_args(max_length=4).check_split(split, cut=None)
    sentence_args(max_length=3).check_split(split, cut=3)
    with pytest.raises(UserError, match=r"a sentence of 4 tokens, but model\.max_length is 3"):
        sentence_args(max_length=3).check_split(split, cut=None)


def test_sentences_of_random_words_are_nobodys_pair(tiny_corpus: Path) -> None:
    sentences, random = open_corpus(tiny_corpus), TrainArgs(random_sentences=0.1)
    lists = pa.list_(pa.int32())
    plain = {"length": pa.array([1], pa.int32()), "ids": pa.array([[5]], lists)}
    paired = Split("train", pa.table({**plain, "pair_ids": pa.array([[6]], lists)}))
    check_random_sentences(sentences, random, Split("train", pa.table(plain)))
    check_random_sentences(sentences, TrainArgs(), paired)
    with pytest.raises(UserError, match=r"train\.random_sentences is 0\.1, but it must be 0 for vectors"):
        check_random_sentences(sentences, random, paired)
