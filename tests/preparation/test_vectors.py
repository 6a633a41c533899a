"""Corpora of vectors: what is drawn, its density, and that they open like any other."""

import numpy as np
import pytest

from data_prep import build as build_script
from smim import config, storage
from smim.cli.corpus import corpusshow
from smim.errors import UserError
from smim.evaluation.vectors import log_density
from smim.vectors.corpus import VectorCorpus
from tests.preparation.builds import hashes

SMALL = ["corpus.train=4000", "corpus.valid=50", "corpus.test=300"]


def build(output, *overrides: str) -> VectorCorpus:
    build_script.main(config.compose("build", [f"output={output}", *overrides]))
    return VectorCorpus.open(output)


def components(corpus: VectorCorpus, split: str = "train") -> dict[str, np.ndarray]:
    """The vectors of each component."""
    opened = corpus.split(split)
    labels = np.array(opened.labels("component"))
    return {label: opened.vectors[labels == label] for label in sorted(set(labels))}


@pytest.mark.parametrize("dimension", [2, 20])
def test_components_are_isotropic_gaussians_around_the_means_of_the_card(tmp_path, dimension):
    corpus = build(tmp_path / "gmm", "corpus=gmm", f"corpus.dimension={dimension}", *SMALL)
    assert corpus.input_size == dimension and len(corpus.split("train")) == 4000
    drawn = components(corpus)
    assert list(drawn) == ["0", "1", "2", "3", "4"]
    for vectors, mean in zip(drawn.values(), corpus.card["density"]["means"], strict=True):
        error = 0.25 / len(vectors) ** 0.5
        assert np.abs(vectors.mean(0) - mean).max() < 4.5 * error
        covariance = np.cov(vectors.T) / 0.25**2
        assert np.abs(covariance - np.eye(dimension)).max() < 4.5 * (2 / len(vectors)) ** 0.5


def test_the_outer_means_lie_at_the_radius_around_the_origin(tmp_path):
    for dimension in (2, 5):
        corpus = build(
            tmp_path / str(dimension), "corpus=gmm", f"corpus.dimension={dimension}", "corpus.radius=3", *SMALL
        )
        means = np.array(corpus.card["density"]["means"])
        assert np.linalg.norm(means, axis=1) == pytest.approx([0, 3, 3, 3, 3])
        if dimension == 2:
            distances = np.linalg.norm(means[1:, None] - means[None, 1:], axis=2)
            assert np.sort(distances, axis=1)[:, 1:] == pytest.approx(np.tile([18**0.5, 18**0.5, 6], (4, 1)))


def test_means_are_evenly_spaced_in_one_dimension_and_a_ring_has_none_at_the_origin(tmp_path):
    line = build(tmp_path / "line", "corpus=gmm", "corpus.dimension=1", "corpus.num_components=3", *SMALL)
    assert line.card["density"]["means"] == [[-1.0], [0.0], [1.0]] and line.split("test").vectors.shape == (300, 1)
    ring = build(tmp_path / "ring", "corpus=gmm", "corpus.center=false", "corpus.num_components=8", *SMALL)
    assert np.linalg.norm(ring.card["density"]["means"], axis=1) == pytest.approx([1] * 8)
    assert ring.input_hash != build(tmp_path / "eight", "corpus=gmm", "corpus.num_components=8", *SMALL).input_hash


def test_the_density_of_the_card_is_that_of_the_vectors(tmp_path):
    corpus = build(tmp_path / "gmm", "corpus=gmm", *SMALL)
    vectors = corpus.split("test").vectors
    means = np.array(corpus.card["density"]["means"])
    squared = np.square(vectors[:, None] - means).sum(2) / 0.25**2
    plain = np.log(np.exp(-0.5 * squared).mean(1) / (2 * np.pi * 0.25**2))
    assert log_density(corpus, vectors) == pytest.approx(plain, abs=1e-5)


def test_splits_are_drawn_apart_and_the_seed_decides_them(tmp_path):
    one = build(tmp_path / "one", "corpus=gmm", *SMALL, "corpus.train=300")
    again = build(tmp_path / "again", "corpus=gmm", *SMALL)
    other = build(tmp_path / "other", "corpus=gmm", *SMALL, "corpus.seed=1")
    assert not set(map(tuple, one.split("train").vectors)) & set(map(tuple, one.split("test").vectors))
    assert one.hash_of("test") == again.hash_of("test") != other.hash_of("test")
    assert one.input_hash == again.input_hash != other.input_hash


def test_the_same_settings_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        build(tmp_path / name, "corpus=digits")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_digits_are_all_there_once_in_like_proportions_between_0_and_1(tmp_path):
    from sklearn.datasets import load_digits

    corpus = build(tmp_path / "digits", "corpus=digits")
    splits = {name: corpus.split(name) for name in ("train", "valid", "test")}
    vectors = np.concatenate([split.vectors for split in splits.values()])
    assert vectors.min() == 0 and vectors.max() == 1
    assert sorted(map(tuple, vectors * 16)) == sorted(map(tuple, load_digits().data))
    assert len(splits["test"]) == pytest.approx(0.25 * 1797, abs=1)
    for split in splits.values():
        shares = np.unique(split.labels("digit"), return_counts=True)[1] / len(split)
        assert shares == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_the_smallest_shares_of_digits_hold_each_digit(tmp_path):
    corpus = build(tmp_path / "digits", "corpus=digits", "corpus.valid=0.01", "corpus.test=0.98")
    assert all(len(set(corpus.split(name).labels("digit"))) == 10 for name in ("train", "valid", "test"))


def test_a_label_belongs_to_its_image(tmp_path):
    from sklearn.datasets import load_digits

    data = load_digits()
    known = {tuple(vector): str(digit) for vector, digit in zip(data.data, data.target, strict=True)}
    split = build(tmp_path / "digits", "corpus=digits").split("test")
    assert [known[tuple(vector * 16)] for vector in split.vectors] == split.labels("digit")


def test_the_card_counts_a_vector_as_a_sentence_of_one_token(tmp_path):
    corpus = build(tmp_path / "gmm", "corpus=gmm", *SMALL)
    card = storage.read_json(tmp_path / "gmm" / "corpus.json")
    assert card["kind"] == "vectors" and card["dimension"] == 2
    described = card["splits"]["test"]
    assert described["sentences"] == described["tokens"] == len(corpus.split("test")) == 300
    assert (described["length_mean"], described["length_std"]) == (1.0, 0.0)
    assert corpus.split("test").lengths.tolist() == [1] * 300
    assert corpus.split("test").label_columns == ["component"]


def test_smim_corpus_show_says_what_a_corpus_of_vectors_holds(tmp_path, capsys):
    build(tmp_path / "digits", "corpus=digits")
    capsys.readouterr()
    corpusshow(tmp_path / "digits")
    printed = capsys.readouterr().out
    assert "dimension\t64" in printed and "test\t450\t45" in printed
    assert "shape\t1 x 8 x 8\n" in printed and "split\tmean of the pixels\n" in printed and "test\t0.305\n" in printed


def test_smim_corpus_show_prints_the_first_numbers_of_vectors_without_a_shape(tmp_path, capsys):
    corpus = build(tmp_path / "gmm", "corpus=gmm", *SMALL)
    capsys.readouterr()
    corpusshow(tmp_path / "gmm")
    first, second = corpus.split("test").vectors[0]
    assert f"test\t{first:.3f} {second:.3f}\n" in capsys.readouterr().out


def test_a_build_replaces_an_older_corpus_and_nothing_else(tmp_path):
    build(tmp_path / "gmm", "corpus=gmm", *SMALL)
    assert len(build(tmp_path / "gmm", "corpus=gmm", *SMALL, "corpus.test=7").split("test")) == 7
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="mine exists and is not a prepared corpus"):
        build(tmp_path / "mine", "corpus=gmm")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["corpus=gmm", "corpus.dimension=0"], r"corpus\.dimension is 0, but it must be at least 1"),
        (["corpus=gmm", "corpus.radius=0", "corpus.train=0"], r"corpus\.radius is 0\.0.*corpus\.train is 0"),
        (
            ["corpus=gmm", "corpus.standard_deviation=-1"],
            r"corpus\.standard_deviation is -1\.0, but it must be above 0",
        ),
        (["corpus=gmm", "corpus.radius=inf"], r"corpus\.radius is inf, but it must be at most 1e\+30"),
        (["corpus=gmm", f"corpus.train={2**30}"], r"corpus\.train=1073741824 vectors of corpus\.dimension=2 have more"),
        (["corpus=digits", "corpus.test=0.95"], r"corpus\.valid=0\.1 and corpus\.test=0\.95"),
        (
            ["corpus=digits", "corpus.test=0.001"],
            r"corpus\.test=0\.001 must be at least 0\.01, and leave 0\.01 for train",
        ),
        (["corpus=digits", "corpus.seed=-1", "corpus.name=.mine"], r"corpus\.name is '\.mine'.*corpus\.seed is -1"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", *overrides)
    assert not list(tmp_path.iterdir())
