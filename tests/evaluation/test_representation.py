"""What the codes know of labels: sentences whose label follows from their text, and labels that cannot be used."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.neighbors import KNeighborsClassifier

from smim.errors import UserError
from smim.evaluation import representation
from smim.evaluation.representation import Neighbours, RepresentationArgs, class_numbers, vote
from smim.text.corpus import Corpus, Split
from tests.corpora import write_corpus
from tests.evaluation.conftest import make_job

NO_MAP = {"map_sentences": 0}


@pytest.fixture
def labelled(tiny_model, tiny_corpus, tmp_path):
    """A job on rows of (text, label), the labels in the column `kind`."""

    def make(train, test, **overrides):
        splits = {
            name: [{"text": text, "kind": label} for text, label in part]
            for name, part in (("train", train), ("test", test))
        }
        write_corpus(tmp_path / "labelled", splits, Corpus.open(tiny_corpus).tokenizer, name="labelled")
        return make_job(tiny_model, tmp_path / "labelled", tmp_path, **overrides)

    return make


def split_of(**columns) -> Split:
    rows = len(next(iter(columns.values())))
    return Split(name="test", table=pa.table({"text": ["a"] * rows, **columns}))


def test_the_majority_of_the_neighbours_wins_and_a_tie_goes_to_the_nearest():
    neighbours = np.array([[0, 1, 1], [2, 1, 1], [2, 1, 0], [0, 0, 1], [1, 2, 2]])
    assert vote(neighbours).tolist() == [1, 1, 2, 0, 2]
    assert vote(np.array([[3, 1, 1, 0, 0], [3, 0, 1, 0, 1]])).tolist() == [1, 0]


def test_neighbours_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    codes, queries = (random.standard_normal((n, 6)).astype(np.float32) for n in (200, 100))
    classes = random.integers(0, 4, 200)
    expected = KNeighborsClassifier(1).fit(codes, classes).predict(queries)
    assert (Neighbours(codes, classes, k=1).classify(queries) == expected).all()


def test_neighbours_far_from_the_origin_are_told_apart():
    random = np.random.default_rng(0)
    codes = (1000 + 0.01 * random.standard_normal((300, 512))).astype(np.float32)
    classes = np.arange(300)
    assert (Neighbours(codes, classes, k=1).classify(codes) == classes).all()


def test_labels_of_any_type_are_numbered():
    classes = ["1", "10", "2"]
    numbers = class_numbers(pa.chunked_array([[2, None], [10, 7]]), classes)
    assert numbers.tolist() == [2, -2, 1, -1]
    assert class_numbers(pa.chunked_array([["1", None, "x"]]), classes).tolist() == [0, -2, -1]


def test_columns_with_too_many_or_too_few_values_are_left_out():
    train = split_of(
        group=["a", "b", "c"], same=["x"] * 3, topic=["p", "q", None], number=[1, 2, 2], tags=[[1], [2], [3]]
    )
    test = Split(name="test", table=train.table.append_column("new", pa.array(["a", "b", "a"])))
    classes, left_out = representation.choose_columns(test, train, max_classes=2)
    assert classes == {"topic": ["p", "q"], "number": ["1", "2"]}
    assert left_out == {
        "group": "more than 2 values",
        "same": "fewer than two values",
        "tags": "its values are lists or records",
        "new": "the training sentences have none",
    }


def test_sentences_whose_label_follows_from_the_text_are_classified(labelled, plots):
    texts = {"a bank sold shares": "p", "her brother lost the new law": "q", "the company": "q"}
    train, test = [item for item in texts.items() for _ in range(5)], list(texts.items())
    section = representation.evaluate(labelled(train, test), RepresentationArgs(**NO_MAP), plots)
    assert section.metrics["knn_accuracy:kind"].value == 1
    assert section.metrics["majority_accuracy:kind"].value == pytest.approx(2 / 3)
    assert section.tables[0].rows == [["kind", "2", "1.000", "0.667"]]


def test_a_label_that_training_has_not_is_wrong_and_one_that_is_missing_left_out(labelled, plots):
    train = [("a bank", "p"), ("the new law", "q"), ("the new law", None)]
    test = [("the new law", None), ("a bank", "p"), ("the new law", "new"), ("the new law", "q")]
    section = representation.evaluate(labelled(train, test), RepresentationArgs(k=1, **NO_MAP), plots)
    metric = section.metrics["knn_accuracy:kind"]
    assert (metric.value, metric.n) == (pytest.approx(2 / 3), 3)
    assert any(note.startswith("1 evaluated sentences have no `kind`") for note in section.notes)


def test_accuracy_is_that_of_scikit_learn(tiny_model, tiny_corpus, tmp_path, plots):
    job = make_job(tiny_model, tiny_corpus, tmp_path)
    metrics = representation.evaluate(job, RepresentationArgs(k=1, **NO_MAP), plots).metrics
    train = job.corpus.split("train")
    classifier = KNeighborsClassifier(1).fit(job.model.encode(train.texts()), train.labels("topic"))
    expected = classifier.score(job.model.encode(job.split.texts()), job.split.labels("topic"))
    assert metrics["knn_accuracy:topic"].value == pytest.approx(expected)


def test_training_sentences_are_a_sample(tiny_model, tiny_corpus, tmp_path, plots):
    job = make_job(tiny_model, tiny_corpus, tmp_path)
    representation.evaluate(job, RepresentationArgs(train_sentences=15, **NO_MAP), plots)
    assert len(np.load(job.work / "posteriors" / "representation_train" / "mean.npy")) == 15


def test_the_map_is_drawn_with_and_without_labels(tiny_model, tiny_corpus, labelled, tmp_path, plots):
    job = make_job(tiny_model, tiny_corpus, tmp_path / "tiny")
    section = representation.evaluate(job, RepresentationArgs(), plots)
    assert "10 evaluated sentences" in section.plots["latent_map.png"]
    (plots / "latent_map.png").unlink()
    texts = Corpus.open(tiny_corpus).split("train").texts()
    unlabelled = representation.evaluate(
        labelled([("a bank", "p")], [(text, "p") for text in texts]), RepresentationArgs(map_sentences=20), plots
    )
    assert "20 evaluated sentences" in unlabelled.plots["latent_map.png"] and (plots / "latent_map.png").exists()
    assert unlabelled.metrics == {} and unlabelled.notes[0].startswith("Not evaluated")


def test_the_map_shows_draws_of_the_labels_rows(tiny_model, tiny_corpus, tmp_path, plots, monkeypatch):
    drawn = {}
    monkeypatch.setattr(representation.plots, "tsne", lambda codes, **_: codes)
    monkeypatch.setattr(representation.plots, "latent_maps", lambda maps, _: drawn.update(maps))
    job = make_job(tiny_model, tiny_corpus, tmp_path)
    representation.evaluate(job, RepresentationArgs(map_sentences=6), plots)
    rows = job.sample(10, 6, stream=1)
    codes, topics = drawn["topic"]
    assert topics.tolist() == [job.split.labels("topic")[row] for row in rows]
    posterior = job.posterior()
    away = (codes - posterior.mean[rows].numpy()) / posterior.standard_deviation[rows].numpy()
    assert 0.5 < away.std() < 2


def test_a_corpus_without_training_sentences_is_not_evaluated(tiny_model, tiny_corpus, tmp_path, plots):
    rows = {"test": [{"text": "a bank", "kind": "p"}, {"text": "the law", "kind": "q"}]}
    write_corpus(tmp_path / "test_only", rows, Corpus.open(tiny_corpus).tokenizer, name="test_only")
    section = representation.evaluate(
        make_job(tiny_model, tmp_path / "test_only", tmp_path), RepresentationArgs(), plots
    )
    assert section.metrics == {} and "no split `train`" in section.notes[0]


def test_all_wrong_values_are_told_together():
    with pytest.raises(UserError, match=r"eval.representation.k is 0, but it must be at least 1; .*max_classes is 1"):
        RepresentationArgs(k=0, max_classes=1)
