"""Corpora of images: their splits, bits, projections and cards, and that they open like any other."""

import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data_prep import build as build_script
from smim import config, storage
from smim.cli.corpus import corpusshow
from smim.errors import UserError
from smim.preparation.image_readers.base import Images
from smim.preparation.images import stratified
from smim.preparation.vectors import LabelledVectors, write_corpus
from smim.vectors.corpus import GREY, VectorCorpus
from tests.preparation.builds import hashes
from tests.preparation.image_files import (
    cifar_batch,
    cifar_files,
    digits_of,
    grey_images,
    mat_arrays,
    omniglot_entries,
    write_idx,
    write_npz,
    write_zip,
)


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A folder with 600 random images for train, and 200 for test."""
    folder = tmp_path_factory.mktemp("mnist")
    write_npz(folder, train=600, test=200)
    return folder


@pytest.fixture
def build(tmp_path, mnist):
    """A function that builds a corpus from overrides, by default one of `mnist`, and opens it."""

    def make(*overrides: str, name: str = "corpus") -> VectorCorpus:
        chosen = overrides if any(each.startswith("corpus=") for each in overrides) else ("corpus=mnist", *overrides)
        path = [] if any(each.startswith("corpus.path=") for each in overrides) else [f"corpus.path={mnist}"]
        build_script.main(config.compose("build", [*chosen, *path, f"output={tmp_path / name}"]))
        return VectorCorpus.open(tmp_path / name)

    return make


def sizes(corpus: VectorCorpus) -> dict[str, int]:
    return {split: len(corpus.split(split)) for split in corpus.card["splits"]}


def test_the_last_sixth_of_the_train_file_is_valid(build):
    corpus = build()
    assert sizes(corpus) == {"train": 500, "valid": 100, "test": 200}
    assert corpus.shape == (1, 28, 28) and corpus.input_size == 784
    pixels = grey_images(600).reshape(600, 784).astype(np.float32) / 255
    assert (corpus.split("train").vectors == pixels[:500]).all()
    assert (corpus.split("valid").vectors == pixels[500:]).all()
    assert corpus.split("valid").labels("digit") == [str(digit) for digit in digits_of(600)[500:]]


def test_fashion_mnist_names_its_articles(build, tmp_path):
    write_idx(tmp_path / "fashion")
    corpus = build("corpus=fashion_mnist", f"corpus.path={tmp_path / 'fashion'}")
    assert sizes(corpus) == {"train": 50, "valid": 10, "test": 20}
    assert corpus.split("test").labels("article")[:3] == ["T-shirt/top", "trouser", "pullover"]


def test_cifar10_is_rgb_channel_first(build, tmp_path):
    (tmp_path / "cifar").mkdir()
    for name, content in cifar_files().items():
        (tmp_path / "cifar" / name).write_bytes(content)
    corpus = build("corpus=cifar10", f"corpus.path={tmp_path / 'cifar'}")
    assert sizes(corpus) == {"train": 90, "valid": 10, "test": 20} and corpus.shape == (3, 32, 32)
    assert (corpus.split("train").vectors[0] * 255).round().tolist() == cifar_batch(0)[0][0].tolist()


def test_drawings_of_each_character_are_in_train_and_test(build, tmp_path):
    write_zip(tmp_path / "omniglot" / "images_one.zip", omniglot_entries({"Greek": 1, "Latin": 2}, drawings=8))
    write_zip(tmp_path / "omniglot" / "images_two.zip", omniglot_entries({"Latin": 2, "Korean": 3}, drawings=8))
    corpus = build("corpus=omniglot", f"corpus.path={tmp_path / 'omniglot'}", "corpus.valid_share=0.125")
    assert sizes(corpus) == {"train": 30, "valid": 6, "test": 12} and corpus.shape == (1, 28, 28)
    assert corpus.card["left_out"] == {"drawings that two archives hold": 16}
    for split, num in (("train", 5), ("valid", 1), ("test", 2)):
        characters, counts = np.unique(corpus.split(split).labels("character"), return_counts=True)
        assert len(characters) == 6 and (counts == num).all()
    assert set(corpus.split("test").labels("alphabet")) == {"Greek", "Latin", "Korean"}
    images = [tuple(vector) for split in sizes(corpus) for vector in corpus.split(split).vectors]
    assert len(set(images)) == 48


def test_burda_et_als_test_set_stays_and_valid_is_drawn_from_train(build, tmp_path):
    (tmp_path / "omniglot").mkdir()
    names = ("data", "target", "targetchar")
    arrays = {f"{prefix}{name}": array for prefix, num, seed in (("", 90, 0), ("test", 30, 1))
              for name, array in zip(names, mat_arrays(num, seed), strict=True)}  # fmt: skip
    savemat(tmp_path / "omniglot" / "chardata.mat", arrays)
    corpus = build("corpus=omniglot", f"corpus.path={tmp_path / 'omniglot'}")
    assert sizes(corpus) == {"train": 85, "valid": 5, "test": 30}  # 5 of all 120, as 1,345 of 32,415
    assert corpus.split("test").vectors[0, 28] == np.float32(arrays["testdata"][1, 0])


def test_pictures_of_a_folder_are_drawn_into_splits(build, tmp_path):
    for i, pixels in enumerate(grey_images(40, size=6)):
        (tmp_path / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png")
    corpus = build("corpus=images", f"corpus.path={tmp_path / 'pictures'}", "corpus.channels=rgb")
    assert sizes(corpus) == {"train": 32, "valid": 4, "test": 4} and corpus.shape == (3, 6, 6)
    assert sorted(corpus.split("test").labels("label")) == ["a", "a", "b", "b"]
    assert corpus.card["source"]["files"] == 40


def test_fewer_images_keep_the_proportions_of_the_labels(build):
    whole, few = build(name="whole"), build("corpus.train=50", "corpus.test=20", name="few")
    assert sizes(few) == {"train": 50, "valid": 100, "test": 20}
    assert np.unique(few.split("train").labels("digit"), return_counts=True)[1].tolist() == [5] * 10
    place = {tuple(vector): i for i, vector in enumerate(whole.split("train").vectors)}
    rows = [place[tuple(vector)] for vector in few.split("train").vectors]
    assert rows == sorted(rows) and rows != list(range(50))
    more = {tuple(vector) for vector in build("corpus.train=70", name="more").split("train").vectors}
    assert {tuple(vector) for vector in few.split("train").vectors} <= more


def test_each_beginning_of_a_stratified_order_is_proportional():
    labels = ["a"] * 60 + ["b"] * 30 + [None] * 10
    order = stratified(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(100))
    for num in (10, 20, 50):
        drawn = [labels[row] for row in order[:num]]
        assert [drawn.count(label) for label in ("a", "b", None)] == [6 * num // 10, 3 * num // 10, num // 10]


def test_a_stratified_order_is_proportional_for_many_small_labels_too():
    labels = ["large"] * 3000 + [f"small {i}" for i in range(1000)] * 3
    drawn = [labels[row] for row in stratified(labels, np.random.default_rng(0))[:600]]
    # Of each small label, one of three is drawn with probability 0.3: 300 with a standard deviation of 14.5.
    assert drawn.count("large") == pytest.approx(300, abs=4.5 * 14.5) and len(set(drawn)) > 230


def test_static_bits_are_drawn_once_by_the_seed(build):
    grey, bits = build(name="grey"), build("corpus.binarisation=static", name="bits")
    again, other = (
        build("corpus.binarisation=static", *seed, name=name)
        for name, seed in (("again", []), ("other", ["corpus.seed=1"]))
    )
    for split in ("train", "valid", "test"):
        drawn, means = bits.split(split).vectors, grey.split(split).vectors
        assert set(np.unique(drawn)) == {0, 1}
        standardised = (drawn - means).sum() / np.sqrt((means * (1 - means)).sum())
        assert abs(standardised) < 4.5
        assert drawn[means == 1].all() and not drawn[means == 0].any()
        assert (drawn == again.split(split).vectors).all() and (drawn != other.split(split).vectors).any()
        assert not bits.split(split).draws_bits
    assert hashes(bits.directory) == hashes(again.directory)


def test_dynamic_bits_are_drawn_for_each_step_of_training(build):
    static = build("corpus.binarisation=static", name="static")
    dynamic = build("corpus.binarisation=dynamic", name="dynamic")
    grey = build(name="grey").split("train").vectors
    train = dynamic.split("train")
    assert (train.grey == grey).all() and train.label_columns == ["digit"]
    for split in ("train", "valid", "test"):
        assert (dynamic.split(split).vectors == static.split(split).vectors).all()
    rows = [5, 2, 499]
    drawn = {key: train.read(rows, key=key).vectors for key in [(0, 0), (0, 1), (1, 0)]}
    assert (drawn[0, 0] == train.read(rows, key=(0, 0)).vectors).all()
    assert (drawn[0, 0] != drawn[0, 1]).any() and (drawn[0, 0] != drawn[1, 0]).any()
    many = np.mean([train.read(rows, key=(0, step)).vectors for step in range(400)], 0)
    assert np.abs(many - grey[rows]).max() < 5 * 0.5 / 400**0.5
    assert (train.read(rows).vectors == train.vectors[rows]).all()
    valid = dynamic.split("valid")
    assert (valid.read(rows[:2], key=(0, 1)).vectors == valid.vectors[rows[:2]]).all()


def test_projections_on_principal_components_keep_the_variance_that_the_card_says(build):
    pixels, corpus = build(name="pixels"), build("corpus.pca=20", name="pca")
    assert corpus.input_size == 20 and corpus.shape is None and "binarisation" not in corpus.card
    train = pixels.split("train").vectors.astype(np.float64)
    mean = train.mean(0)
    _, singular, directions = np.linalg.svd(train - mean, full_matrices=False)
    expected = (pixels.split("test").vectors - mean) @ directions[:20].T
    found = corpus.split("test").vectors
    signs = np.sign((expected * found).sum(0))
    assert np.abs(found - signs * expected).max() < 1e-4
    share = np.square(singular[:20]).sum() / np.square(singular).sum()
    assert corpus.card["pca"] == {"components": 20, "share_of_variance": pytest.approx(share)}


def test_few_large_images_have_one_principal_component_less_than_images(build, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(grey_images(6, size=600)):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    corpus = build("corpus=images", f"corpus.path={tmp_path / 'pictures'}", "corpus.pca=3")
    assert corpus.input_size == 3 and corpus.card["pca"]["share_of_variance"] == pytest.approx(1)


def test_equal_images_have_no_principal_components(build, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(grey_images(1)[0]).save(tmp_path / "pictures" / split / f"{i}.png")
    with pytest.raises(UserError, match=r"all images of train are equal, .*; leave out corpus\.pca"):
        build("corpus=images", f"corpus.path={tmp_path / 'pictures'}", "corpus.pca=1")
    assert not list(tmp_path.glob(".*"))


def test_more_numbers_than_arrow_can_count_are_refused(build, monkeypatch):
    monkeypatch.setattr("smim.preparation.images.MOST_NUMBERS", 800 * 784 - 1)
    with pytest.raises(UserError, match=r"the images have 627,200 numbers, .*; keep fewer with corpus\.train=N"):
        build()
    assert sizes(build("corpus.test=199"))["test"] == 199


def test_grey_values_are_made_without_a_second_copy():
    images = Images(np.full((1000, 1, 32, 32), 51, np.uint8), {}, ())
    tracemalloc.start()
    vectors = images.vectors
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (vectors == np.float32(0.2)).all() and peak < 1.1 * vectors.nbytes


def test_a_folder_of_others_is_refused_before_the_pictures_are_read(build, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.txt").write_text("all of it")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="corpus exists and is not a prepared corpus; give another output=DIR"):
        build("corpus=images", f"corpus.path={tmp_path / 'pictures'}")


def test_pictures_that_are_not_read_are_told_by_their_names(build, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(grey_images(4)):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    for name in (b"[/a].gif", b"[bold].gif", b":car:.gif", b"caf\xe9.gif"):
        path = tmp_path / "pictures" / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    build("corpus=images", f"corpus.path={tmp_path / 'pictures'}")
    assert "not read: :car:.gif, [/a].gif, [bold].gif, caf\\udce9.gif" in capsys.readouterr().err


def test_images_of_one_shape_have_one_meaning_and_projections_their_own(build):
    corpora = [
        build(*overrides, name=str(i))
        for i, overrides in enumerate([(), ("corpus.binarisation=dynamic",), ("corpus.train=50",), ("corpus.pca=2",)])
    ]
    grey, bits, few, projected = (corpus.input_hash for corpus in corpora)
    assert grey == bits == few != projected
    assert len({corpus.hash_of("train") for corpus in corpora}) == 4


def test_smim_corpus_show_says_the_shape_and_the_binarisation(build, capsys):
    corpus = build("corpus.binarisation=dynamic")
    capsys.readouterr()
    corpusshow(corpus.directory)
    printed = capsys.readouterr().out
    assert "shape\t1 x 28 x 28\n" in printed and "binarisation\tdynamic\n" in printed
    assert "test\t200\t20\t20" in printed and "mean of the pixels" in printed
    projected = build("corpus.pca=20", name="pca")
    corpusshow(projected.directory)
    assert "principal components\tcomponents 20, share_of_variance 0." in capsys.readouterr().out


def test_many_labels_are_counted_and_not_listed(build, tmp_path, capsys):
    alphabets = {f"alphabet {i}": i for i in range(1, 12)}
    write_zip(tmp_path / "omniglot" / "images_one.zip", omniglot_entries(alphabets))
    corpus = build("corpus=omniglot", f"corpus.path={tmp_path / 'omniglot'}")
    corpusshow(corpus.directory)
    assert "split\tvectors\tvalues of character\ntrain\t62\t22\n" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan])
def test_grey_values_outside_0_to_1_are_refused(tmp_path, wrong):
    grey = np.full((4, 9), 0.5, np.float32)
    grey[2, 3] = wrong
    rows = LabelledVectors(np.ones((4, 9)), ["a"] * 4, {GREY: grey})
    write_corpus(tmp_path / "corpus", {"train": rows}, name="own", label="label", source={}, shape=[1, 3, 3])
    with pytest.raises(UserError, match=r"lacks grey values in \[0, 1\]; prepare the corpus again"):
        VectorCorpus.open(tmp_path / "corpus").split("train")


def test_a_label_column_called_grey_is_a_label(tmp_path):
    rows = LabelledVectors(np.ones((4, 9)), ["a", None, "a", "b"])
    write_corpus(tmp_path / "corpus", {"train": rows}, name="own", label=GREY, source={})
    split = VectorCorpus.open(tmp_path / "corpus").split("train")
    assert split.labels(GREY) == ["a", None, "a", "b"] and not split.draws_bits
    assert (split.read([0, 1], key=(0, 0)).vectors == 1).all()


def test_a_card_with_another_shape_is_refused(build):
    corpus = build()
    path = corpus.directory / "corpus.json"
    card = storage.read_json(path)
    for shape in ([1, 28, 27], [784], [1, 0, 28]):
        storage.write_json(path, card | {"shape": shape})
        with pytest.raises(UserError, match=r"shape .* is not that of 784 numbers"):
            VectorCorpus.open(corpus.directory)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["corpus.binarisation=fixed"], r"corpus\.binarisation is 'fixed'; valid: dynamic, none, static"),
        (["corpus.train=0", "corpus.seed=-1"], r"corpus\.seed is -1, but it must be at least 0.*corpus\.train is 0"),
        ([f"corpus.seed={10**25}"], r"corpus\.seed is 1000.*, but it must be at most 4294967295"),
        (["corpus.name=../mine"], r"corpus\.name is '\.\./mine'; give a name without a slash"),
        (["corpus.train=501"], r"corpus\.train is 501, but there are only 500 images for train"),
        (["corpus.pca=20", "corpus.binarisation=static"], r"corpus\.pca needs grey values"),
        (
            ["corpus.train=10", "corpus.pca=10"],
            r"corpus\.pca is 10, but train has only 9 principal components",
        ),
        (["corpus.train=1", "corpus.pca=1"], r"corpus\.pca is 1, but train has only 0 principal components"),
        (["corpus=mnist", "corpus.path=null"], r"corpus\.path is missing; give corpus\.path=FOLDER with mnist_train"),
        (["corpus=images", "corpus.valid_share=0.6", "corpus.test_share=0.5"], r"leave nothing for train"),
        (["corpus=images", "corpus.channels=four"], r"corpus\.channels is 'four'; valid: grey, rgb"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(build, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        build(*overrides)
    assert not list(tmp_path.iterdir())


def test_splits_of_different_shapes_are_refused(build, tmp_path):
    write_npz(tmp_path / "raw")
    np.savez(tmp_path / "raw" / "mnist_test.npz", images=grey_images(10, size=27), labels=digits_of(10))
    with pytest.raises(UserError, match=r"images of test have the shape \[1, 27, 27\], but those of train have"):
        build(f"corpus.path={tmp_path / 'raw'}")


def test_too_few_images_for_three_splits_are_refused(build, tmp_path):
    write_npz(tmp_path / "small", train=2)
    with pytest.raises(UserError, match="has 2 images, too few for a train and a validation set"):
        build(f"corpus.path={tmp_path / 'small'}")
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(grey_images(2)):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    with pytest.raises(UserError, match="has 2 images, too few for train, valid and test"):
        build("corpus=images", f"corpus.path={tmp_path / 'pictures'}")
