"""A teacher's vectors of a corpus: the right ones, made once, whoever makes them and after a kill; and refusals."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from smim import teaching
from smim.errors import SmimError, UserError
from smim.teaching import TeachArgs, teach
from smim.text.corpus import Corpus
from smim.text.teacher import Teacher
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.ray_elsewhere import RayElsewhere
from tests.teachers import DIMENSION, write_teacher

SPLITS = ("train", "valid", "test")
# Sixty texts and the words in tasks of seven; forty rows of train in three shards.
SMALL = TeachArgs(precision="fp32", rows_per_task=7, rows_per_shard=16)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teachers") / "static")


@pytest.fixture(scope="module")
def taught(model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(tiny_corpus, teacher=str(model), output=tmp_path_factory.mktemp("taught") / "tiny", args=SMALL)


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths, lengths, 1)


def test_vectors_are_the_teachers_rotated_into_their_principal_axes(taught: Path, model: Path, tiny_corpus: Path):
    teacher, corpus = Teacher.open(taught), Corpus.open(tiny_corpus, teacher=taught)
    own = SentenceTransformer(str(model), device="cpu")
    np.testing.assert_allclose(teacher.axes.T @ teacher.axes, np.eye(DIMENSION), atol=1e-6)
    for split in map(corpus.split, SPLITS):
        expected = unit(own.encode(split.texts())) @ teacher.axes
        assert split.view is not None
        np.testing.assert_allclose(split.view(np.arange(len(split))), expected, atol=1e-3)
    rows = [39, 3, 16]
    batch = corpus.split("train").batch(rows)
    assert batch.view is not None and batch.view.dtype.is_floating_point
    # Of all k numbers, the first k hold the most of the vectors.
    squares = np.square(unit(own.encode(corpus.split("train").texts())) @ teacher.axes).sum(0)
    assert (np.diff(squares) <= 1e-4).all()
    singular = np.linalg.svd(unit(own.encode(corpus.split("train").texts())), compute_uv=False)
    np.testing.assert_allclose(squares, singular**2, rtol=1e-4)


def test_each_word_has_its_vector_and_its_count(taught: Path, model: Path, tiny_corpus: Path):
    teacher, corpus = Teacher.open(taught), Corpus.open(tiny_corpus)
    words = [corpus.tokenizer.token(id) for id in range(corpus.tokenizer.vocabulary_size)]
    expected = unit(SentenceTransformer(str(model), device="cpu").encode(words[4:])) @ teacher.axes
    np.testing.assert_allclose(teacher.pieces[4:], expected, atol=1e-5)
    assert not teacher.pieces[:4].any()
    ids = np.concatenate(corpus.split("train").ids(range(40)))
    assert teacher.counts.tolist() == np.bincount(ids, minlength=len(words)).tolist()


def test_raw_bytes_and_special_pieces_have_no_vector(tiny_corpus: Path, model: Path, tmp_path: Path):
    from smim.text.pieces import SentencePieceTokenizer

    texts = Corpus.open(tiny_corpus).split("train").texts()
    tokenizer = SentencePieceTokenizer.train(texts, algorithm="unigram", vocabulary_size=296)
    write_corpus(tmp_path / "pieces", {"train": [{"text": text} for text in texts]}, tokenizer, name="pieces")
    teacher = Teacher.open(teach(tmp_path / "pieces", teacher=str(model), args=SMALL))
    assert teacher.directory == tmp_path / "pieces-teacher"
    named = [tokenizer.token(id) for id in np.flatnonzero(teacher.pieces.any(axis=1))]
    assert named and not [name for name in named if name.startswith("<")]
    np.testing.assert_allclose(np.linalg.norm(teacher.pieces[teacher.pieces.any(axis=1)], axis=1), 1, atol=1e-5)


def test_equal_texts_are_read_once_and_those_of_an_evaluation_not_at_all(
    tiny_corpus: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    corpus = Corpus.open(tiny_corpus)
    texts = corpus.split("train").texts()
    rows = {"train": [{"text": text} for text in texts + texts[:5]], "valid": [{"text": text} for text in texts[3:8]]}
    write_corpus(tmp_path / "again", rows, corpus.tokenizer, name="again")
    (tmp_path / "evaluated.tsv").write_text(f"1.0\t{texts[4].upper()} .\tnothing\n")
    read, encode = [], teaching._encode
    monkeypatch.setattr(teaching, "_encode", lambda *a: (read.extend(a[1]), encode(*a))[1])
    output = teach(tmp_path / "again", teacher=str(model), without=[tmp_path / "evaluated.tsv"], args=SMALL)
    assert sorted(text for text in read if " " in text) == sorted(set(texts) - {texts[4]})
    teacher = Teacher.open(output)
    assert {name: split.left_out for name, split in teacher.splits.items()} == {"train": 2, "valid": 1}
    assert teacher.distinct == 39 and [file["file"] for file in teacher.without] == ["evaluated.tsv"]
    taught = Corpus.open(tmp_path / "again", teacher=output)
    vectors = {name: taught.split(name).batch(range(len(rows[name]))).view for name in rows}
    assert np.flatnonzero(~vectors["train"].any(1)).tolist() == [4, 44]
    assert (vectors["train"][3:8] == vectors["valid"]).all() and (vectors["train"][:5] == vectors["train"][40:]).all()


def test_sentences_that_pass_a_filter_are_read_alone(tiny_corpus: Path, model: Path, tmp_path: Path):
    corpus = Corpus.open(tiny_corpus)
    texts = corpus.split("train").texts()
    rows = [{"text": text, "form": ("written", "bare")[i % 2]} for i, text in enumerate(texts)]
    write_corpus(tmp_path / "forms", {"train": rows}, corpus.tokenizer, name="forms")
    output = teach(tmp_path / "forms", teacher=str(model), where={"form": "written"}, args=SMALL)
    assert Teacher.open(output).where == {"form": "written"}
    view = Corpus.open(tmp_path / "forms", teacher=output).split("train").batch(range(len(rows))).view
    assert view is not None and view.any(1).tolist() == [row["form"] == "written" for row in rows]
    for where, message in (
        ({"from": "written"}, "no column 'from'"),
        ({"form": "x"}, 'passes the filter {"form": "x"}'),
    ):
        with pytest.raises(UserError, match=message):
            teach(tmp_path / "forms", teacher=str(model), output=tmp_path / "none", where=where, args=SMALL)


def test_of_many_sentences_some_are_read_and_the_others_have_zeros(
    taught: Path, model: Path, tiny_corpus: Path, tmp_path: Path
):
    output = teach(tiny_corpus, teacher=str(model), output=tmp_path / "few", sentences=10, args=SMALL)
    few, all_of_them = Teacher.open(output), Teacher.open(taught)
    assert (few.sentences, few.distinct, all_of_them.sentences) == (10, 10, None)
    corpora = [Corpus.open(tiny_corpus, teacher=directory) for directory in (output, taught)]
    texts, vectors, whole = set(), [], []
    for name, split in few.splits.items():
        views, of_all = (corpus.split(name).view(np.arange(split.count)) for corpus in corpora)
        read = views.any(1)
        assert split.left_out == (~read).sum()
        texts |= set(np.array(corpora[0].split(name).texts())[read])
        vectors.append(views[read])
        whole.append(of_all[read])
    assert len(texts) == 10
    # Each in the axes of its own train: similarities are the same.
    similar, expected = (np.concatenate(each) @ np.concatenate(each).T for each in (vectors, whole))
    np.testing.assert_allclose(similar, expected, atol=5e-3)
    with pytest.raises(UserError, match=r"sentences is 0, but it must be a whole number of at least 1"):
        teach(tiny_corpus, teacher=str(model), output=tmp_path / "none", sentences=0, args=SMALL)


def test_tasks_that_ray_runs_twice_give_the_same_bytes(
    taught: Path, model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", RayElsewhere(tmp_path, times=2))
    args = TeachArgs(precision="fp32", rows_per_task=7, rows_per_shard=16, engine="ray")
    teach(tiny_corpus, teacher=str(model), output=tmp_path / "out", args=args)
    assert contents(tmp_path / "out") == contents(taught) and os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_more_processes_give_the_same_bytes(engine: str, taught: Path, model: Path, tiny_corpus: Path, tmp_path: Path):
    if engine == "ray":
        pytest.importorskip("ray")
    args = TeachArgs(precision="fp32", rows_per_task=7, rows_per_shard=16, engine=engine, workers=2)
    teach(tiny_corpus, teacher=str(model), output=tmp_path / "out", args=args)
    assert contents(tmp_path / "out") == contents(taught)


def test_a_job_that_was_stopped_goes_on_without_reading_again(
    taught: Path, model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output, read, encode = tmp_path / "out", [], teaching._encode

    def stop_after_four(*args):
        read.append(args[1])
        if len(read) == 5:
            raise SmimError("stopped")
        return encode(*args)

    with monkeypatch.context() as patch, pytest.raises(SmimError, match="stopped"):
        patch.setattr(teaching, "_encode", stop_after_four)
        teach(tiny_corpus, teacher=str(model), output=output, args=SMALL)
    left = tmp_path / ".out.work"
    assert len(os.listdir(left / "done")) == 3 and not output.exists()
    (left / "vectors" / "text-00001.npy").write_bytes(b"")
    again = []
    monkeypatch.setattr(teaching, "_encode", lambda *a: (again.append(a[1]), encode(*a))[1])
    teach(tiny_corpus, teacher=str(model), output=output, args=SMALL)
    assert contents(output) == contents(taught) and os.listdir(tmp_path) == ["out"]
    assert read[2] in again and read[1] not in again and read[3] not in again


def test_what_is_there_is_kept_and_that_of_another_teacher_replaced(
    taught: Path, model: Path, tiny_corpus: Path, tmp_path: Path
):
    output = shutil.copytree(taught, tmp_path / "out")
    inode = (output / "teacher.json").stat().st_ino
    # The same model elsewhere is the same teacher.
    teach(tiny_corpus, teacher=str(shutil.copytree(model, tmp_path / "model")), output=output, args=SMALL)
    assert (output / "teacher.json").stat().st_ino == inode
    teach(tiny_corpus, teacher=str(write_teacher(tmp_path / "model", seed=1)), output=output, args=SMALL)
    assert Teacher.open(output).teacher_hash != Teacher.open(taught).teacher_hash


def test_bf16_comes_near_to_fp32(taught: Path, model: Path, tiny_corpus: Path, tmp_path: Path):
    args = TeachArgs(precision="bf16", rows_per_shard=16)
    half = Teacher.open(teach(tiny_corpus, teacher=str(model), output=tmp_path / "half", args=args))
    assert half.precision == "bf16"
    one, other = (Corpus.open(tiny_corpus, teacher=each).split("test").view for each in (taught, half.directory))
    assert one is not None and other is not None
    rows = np.arange(10)
    np.testing.assert_allclose(one(rows) @ one(rows).T, other(rows) @ other(rows).T, atol=0.02)


def test_mistakes_are_one_message_and_leave_nothing(tiny_corpus: Path, model: Path, tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "empty").mkdir()
    for teacher, corpus, output, message in [
        (model, model, "out", "is not a prepared corpus"),
        (model, tiny_corpus, "thesis", "is not a teacher's directory; give another output"),
        (tmp_path / "empty", tiny_corpus, "out", "cannot be opened as a model of sentence-transformers"),
        (tmp_path / "nowhere", tiny_corpus, "out", "is not a model's name on the hub"),
    ]:
        with pytest.raises(UserError, match=message):
            teach(corpus, teacher=str(teacher), output=tmp_path / output)
    with pytest.raises(UserError, match=r"teach\.precision is 'fp8'.*teach\.rows_per_task is 0"):
        TeachArgs(precision="fp8", rows_per_task=0)
    assert sorted(os.listdir(tmp_path)) == ["empty", "thesis"]


def test_a_teacher_whose_vectors_are_nan_is_refused_with_the_text(tiny_corpus: Path, tmp_path: Path):
    broken = write_teacher(tmp_path / "broken", scale=1e39)
    with pytest.raises(SmimError, match=r"the teacher's vector of 'a' is NaN or infinite; .*fp32"):
        teach(tiny_corpus, teacher=str(broken), output=tmp_path / "out", args=SMALL)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_not_read(tiny_corpus: Path, tmp_path: Path):
    """A transformer whose weights are pickled alone."""
    import torch
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    bert = BertModel(BertConfig(vocab_size=30, **sizes))
    bert.config.save_pretrained(tmp_path / "pickled")
    (tmp_path / "pickled" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nbank\n")
    torch.save(bert.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"cannot be opened .*safetensors"):
        teach(tiny_corpus, teacher=str(tmp_path / "pickled"), output=tmp_path / "out")


def test_without_sentence_transformers_the_message_says_what_to_install(
    tiny_corpus: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    teaching._opened.cache_clear()
    with pytest.raises(UserError, match=r"a teacher needs sentence-transformers .*pip install 'smim\[hub\]'"):
        teach(tiny_corpus, teacher=str(model), output=tmp_path / "out")


# What does not fit in training.


@pytest.fixture
def copy(taught: Path, tmp_path: Path) -> Path:
    return shutil.copytree(taught, tmp_path / "copy")


@pytest.mark.parametrize("name", ["train-00001.npy", "pieces.npy", "axes.npy"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "one bit"])
def test_a_damaged_file_is_refused_by_its_name(copy: Path, name: str, damage: str):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage != "missing":
        changed = content[:-4] if damage == "truncated" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        (copy / name).write_bytes(changed)
    with pytest.raises(UserError, match=rf"{name} is missing, truncated or not the file that teacher\.json describes"):
        Teacher.open(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"is not a teacher's directory of format 1"),
        ({"dimension": 7}, r"holds float16 \(16, 6\), but it must hold float16 \(16, 7\)"),
        ({"rows_per_shard": 0}, "edited or damaged"),
        ({"vocabulary_size": 3}, r"pieces\.npy holds float32"),
        ({"extra": 1}, "edited or damaged"),
    ],
)
def test_a_card_of_another_format_or_edited_is_refused(copy: Path, changes: dict, message: str):
    card = json.loads((copy / "teacher.json").read_text())
    (copy / "teacher.json").write_text(json.dumps({**card, **changes}))
    with pytest.raises(UserError, match=message):
        Teacher.open(copy)


def test_nan_in_a_shard_is_refused_where_it_is_read(copy: Path, tiny_corpus: Path):
    vectors = np.load(copy / "train-00001.npy")
    vectors[3, 2] = np.nan
    np.save(copy / "train-00001.npy", vectors)
    card = json.loads((copy / "teacher.json").read_text())
    info = vars(teaching.FileInfo.of(copy / "train-00001.npy"))
    card["splits"]["train"]["shards"][1]["files"]["train-00001.npy"] = info
    (copy / "teacher.json").write_text(json.dumps(card))
    split = Corpus.open(tiny_corpus, teacher=copy).split("train")
    split.batch([0])
    with pytest.raises(UserError, match="has NaN or infinite numbers in train"):
        split.batch([19])


def test_vectors_of_another_corpus_tokenizer_or_splits_are_refused(taught: Path, tiny_corpus: Path, tmp_path: Path):
    corpus = Corpus.open(tiny_corpus)
    texts = [{"text": text} for text in corpus.split("train").texts()]
    write_corpus(tmp_path / "other", {"train": texts[::-1]}, corpus.tokenizer, name="other")
    write_corpus(tmp_path / "more", {"train": texts, "dev": texts}, corpus.tokenizer, name="more")
    words = WordTokenizer.train(["other words"], splitter="whitespace")
    write_corpus(tmp_path / "words", {"train": [{"text": "other words"}]}, words, name="words")
    with pytest.raises(UserError, match="was made for another tokenizer than that of"):
        Corpus.open(tmp_path / "words", teacher=taught)
    with pytest.raises(UserError, match="has vectors for another corpus"):
        Corpus.open(tmp_path / "other", teacher=taught).split("train")
    with pytest.raises(UserError, match="has no split 'dev'"):
        Corpus.open(tmp_path / "more", teacher=taught).split("dev")
    with pytest.raises(UserError, match="holds no teacher's vectors"):
        Corpus.open(tiny_corpus, teacher=tmp_path)
