"""TzK over images: dequantised grey values, labels of several corpora, and what is learned of bars across and down."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from smim.errors import UserError
from smim.tzk import FitArgs, GlowArgs, ImageTzK, KnowledgeArgs, fit_image_tzk, open_image_tzk, open_tzk
from smim.tzk import images as images_module
from smim.tzk.codes import some_rows
from smim.tzk.images import Dequantised, Images, bits_per_dimension
from smim.tzk.training import draw
from smim.vectors.corpus import VectorCorpus
from tests.tzk.pictures import SIZE, write_bars

ARGS = GlowArgs(num_scales=2, num_coupling_layers=2, hidden_dim=16)
LABEL = KnowledgeArgs(code_dim=2, num_coupling_layers=2, hidden_dim=16, num_code_layers=2)
FIT = FitArgs(num_optimizer_steps=150, batch_size=64, learning_rate=5e-3)
SHORT = FitArgs(num_optimizer_steps=10, batch_size=8)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[VectorCorpus]:
    directory = tmp_path_factory.mktemp("bars")
    return [write_bars(directory, "dark", num=600), write_bars(directory, "light", num=600, ground=100)]


@pytest.fixture(scope="module")
def tzk(corpora: list[VectorCorpus], tmp_path_factory: pytest.TempPathFactory) -> ImageTzK:
    """Learned of both corpora, with the labels way=across and corpus=light added afterwards."""
    tzk = fit_image_tzk(corpora, tmp_path_factory.mktemp("tzk") / "bars", args=ARGS, fit=FIT)
    for label in ("way=across", "corpus=light"):
        tzk.add(corpora, label, args=LABEL, fit=FIT)
    return tzk


def across(images: torch.Tensor) -> torch.Tensor:
    """Whether the brightest row of each image is brighter than its brightest column, bool [N]."""
    return images.mean(3).amax((1, 2)) > images.mean(2).amax((1, 2))


def test_dequantised_values_are_uniform_within_their_level() -> None:
    images = Dequantised(torch.tensor([[[[0, 255]]]], dtype=torch.uint8).expand(20_000, 1, 1, 2))
    drawn = images.sample(torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))) * 256
    within = drawn - torch.tensor([0, 255])
    assert within.min() >= 0 and within.max() <= 1
    assert within.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert within.std(0).tolist() == pytest.approx([12**-0.5] * 2, abs=0.01)


def test_uniform_images_have_eight_bits_per_dimension_and_certain_ones_none() -> None:
    assert bits_per_dimension(torch.tensor([0.0, 10 * math.log(256)]), 10).tolist() == pytest.approx([8, 0], abs=1e-6)


def test_channel_of_equal_levels_gives_no_infinite_numbers() -> None:
    images = Dequantised(torch.zeros(50, 1, 8, 8, dtype=torch.uint8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = GlowArgs(hidden_dim=8).make(images)
        bits = bits_per_dimension(prior.log_prob(images.sample(torch.randn(50, 64))), prior.dim)
    assert bits.max() < 2
    bits.mean().backward()
    assert all(bool(each.grad.isfinite().all()) for each in prior.parameters() if each.grad is not None)


def test_images_are_padded_around_and_know_their_corpus(corpora: list[VectorCorpus]) -> None:
    images = Images(corpora, "test", num_scales=2)
    assert images.levels.shape == (1200, 1, 8, 8) and images.levels.dtype == torch.uint8
    inner = images.levels[:, :, 1:-1, 1:-1].flatten(1).float() / 255
    expected = np.concatenate([corpus.split("test").vectors for corpus in corpora])
    torch.testing.assert_close(inner, torch.from_numpy(expected))
    assert images.levels.sum() == images.levels[:, :, 1:-1, 1:-1].sum()
    assert images.labels([0, 1199]) == [{"way": "across", "corpus": "dark"}, {"way": "down", "corpus": "light"}]


def test_images_are_converted_in_parts(corpora: list[VectorCorpus], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Images(corpora, "test", num_scales=2).levels
    monkeypatch.setattr(images_module, "_ROWS_AT_ONCE", 7)
    assert torch.equal(Images(corpora, "test", num_scales=2).levels, whole)


def test_label_columns_of_two_corpora_are_compared_as_text(tmp_path: Path) -> None:
    numbers = write_bars(tmp_path, "numbers", num=4, others={"kind": np.array([1, 2, 1, 2])})
    texts = write_bars(tmp_path, "texts", num=4, others={"kind": ["1", None, "3", "x"]})
    images = Images([numbers, texts], "train", num_scales=2)
    assert [each["kind"] for each in images.labels(range(8))] == ["1", "2", "1", "2", "1", None, "3", "x"]


def test_samples_follow_their_labels(tzk: ImageTzK) -> None:
    shares = {labels: float(across(tzk.sample(200, labels)).double().mean()) for labels in ((), ("way=across",))}
    assert 0.3 < shares[()] < 0.7 and shares[("way=across",)] > 0.8
    ground = tzk.sample(200, ["corpus=light"])[:, :, 1:-1, 1:-1].flatten(1).quantile(0.3, -1)
    assert (ground > 0.27).double().mean() > 0.8
    both = tzk.sample(100, ["way=across", "corpus=light"])
    chained = tzk.sample(100, ["way=across", "corpus=light"], gibbs_steps=6)
    for images in (both, chained):
        assert across(images).double().mean() > 0.75
        assert (images[:, :, 1:-1, 1:-1].flatten(1).quantile(0.3, -1) > 0.27).double().mean() > 0.75


def test_classify_and_rank_find_the_images_with_a_label(tzk: ImageTzK, corpora: list[VectorCorpus]) -> None:
    rows = range(0, 1200, 10)
    found = tzk.classify(corpora, rows, ["way=across", "corpus=light"])
    truth = np.array([[label["way"] == "across", label["corpus"] == "light"] for label in
                      Images(corpora, "test", num_scales=2).labels(rows)])  # fmt: skip
    assert ((found > 0.5) == truth).mean() > 0.95
    ranked = tzk.rank(corpora, ["way=across", "corpus=light"], 20)
    probability = tzk.classify(corpora, [each.row for each in ranked], ["way=across", "corpus=light"]).prod(-1)
    assert [each.probability for each in ranked] == pytest.approx(sorted(probability, reverse=True))
    assert all(600 <= each.row < 900 for each in ranked) and ranked[-1].probability >= found.prod(-1).max() - 0.05


def test_report_shows_a_gain_of_the_label(tzk: ImageTzK, corpora: list[VectorCorpus]) -> None:
    every, light = tzk.measure(corpora, ["corpus=light"], num=60)
    assert every.label is None and every.num_images == 1200 and light.num_images == 600
    # One bit of 64 dimensions for the label, and what its own z-flow improves.
    assert light.conditional is not None and light.conditional[0] < light.prior[0]
    assert light.auc is not None and light.auc > 0.95
    assert tzk.card.training["valid_bits_per_dimension"] == pytest.approx(every.prior[0], abs=0.3)
    assert every.prior[0] < 7
    assert light.gain is not None and light.gain[0] == pytest.approx(light.prior[0] - light.conditional[0])


def test_figures_of_a_report_are_means_over_images_with_standard_errors(
    tzk: ImageTzK, corpora: list[VectorCorpus]
) -> None:
    [_, light] = tzk.measure(corpora, ["corpus=light"], num=20)
    observed = draw(
        Images(corpora, "test", num_scales=2).posterior(some_rows(np.arange(600, 1200), 20, 0)),
        torch.Generator().manual_seed(0),
    )
    prior, conditional = (bits_per_dimension(tzk.log_prob(observed, label), 64) for label in (None, "corpus=light"))
    one_code = bits_per_dimension(tzk.log_prob_of_code(observed, "corpus=light"), 64)
    for found, values in (
        (light.prior, prior),
        (light.conditional, conditional),
        (light.one_code, one_code),
        (light.gain, prior - conditional),
    ):
        assert found == pytest.approx((float(values.mean()), float(values.std()) / 20**0.5))


def test_figures_of_a_label_do_not_depend_on_other_labels(tzk: ImageTzK, corpora: list[VectorCorpus]) -> None:
    [_, alone] = tzk.measure(corpora, ["way=across"], num=10)
    assert tzk.measure(corpora, ["corpus=light", "way=across", "way=across"], num=10)[2:] == [alone]


def test_corners_of_an_interpolation_are_the_images(tzk: ImageTzK, corpora: list[VectorCorpus]) -> None:
    grid = tzk.interpolate(corpora, [0, 400, 600, 1000], 3).unflatten(0, (3, 3))
    given = Images(corpora, "test", num_scales=2).pictures([0, 400, 600, 1000]).unflatten(0, (2, 2))
    torch.testing.assert_close(grid[::2, ::2], given, rtol=0, atol=0.01)
    codes = Images(corpora, "test", num_scales=2).posterior(np.array([0, 400, 600, 1000])).mean
    with torch.no_grad():
        middle = tzk.prior.point(tzk.interpolate_codes(codes, 3)[1, 1][None]).z
        torch.testing.assert_close(middle[0], tzk.prior.point(codes).z.mean(0), rtol=0, atol=2e-2)


def test_opened_again_it_says_what_it_said(tzk: ImageTzK) -> None:
    again = open_image_tzk(tzk.directory)
    assert again.labels == ["corpus=light", "way=across"]
    images = tzk.sample(5, ["way=across"], seed=3)
    assert torch.equal(again.sample(5, ["way=across"], seed=3), images)
    assert torch.equal(
        again.log_prob(images.flatten(1), "corpus=light"), tzk.log_prob(images.flatten(1), "corpus=light")
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shape", [1, 7, 8], "is not that of images with 2 scales"),
        ("shape", [1, 8192, 8192], "has more than 16,777,216 numbers"),
        ("shape", [2, 8, 8], "does not fit the configuration beside it"),
        ("prior", {"num_scales": 3, "num_coupling_layers": 2, "hidden_dim": 16}, "does not fit the configuration"),
        ("weights_sha256", "0" * 64, "is not the file that the configuration beside it names"),
    ],
)
def test_what_was_edited_is_refused(tzk: ImageTzK, tmp_path: Path, field: str, value: object, message: str) -> None:
    copy = shutil.copytree(tzk.directory, tmp_path / "tzk")
    card = json.loads((copy / "tzk.json").read_text())
    (copy / "tzk.json").write_text(json.dumps({**card, field: value}))
    with pytest.raises(UserError, match=message):
        open_image_tzk(copy)


def test_label_is_learned_jointly_with_the_prior(corpora: list[VectorCorpus], tmp_path: Path) -> None:
    alone = fit_image_tzk(corpora, tmp_path / "alone", args=ARGS, fit=SHORT)
    jointly = fit_image_tzk(
        corpora, tmp_path / "jointly", args=ARGS, fit=SHORT, labels=["corpus=light"], knowledge=LABEL
    )
    assert jointly.labels == ["corpus=light"]
    assert jointly.knowledge("corpus=light").args == LABEL
    different = [name for name, value in alone.prior.state_dict().items()
                 if not torch.equal(value, jointly.prior.state_dict()[name])]  # fmt: skip
    assert different  # the label has changed the t-flow
    assert jointly.add(corpora, "way=across", args=LABEL, fit=SHORT).frequency == 0.5


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"binarisation": "static"}, r"holds bits \(corpus.binarisation=static\)"),
        ({"shape": None}, "holds vectors without the shape of an image"),
        ({"shape": [1, 4, 9]}, r"the images have different shapes: dark \(1, 6, 6\), other \(1, 4, 9\)"),
    ],
)
def test_vectors_that_are_no_grey_images_are_refused(
    corpora: list[VectorCorpus], tmp_path: Path, described: dict, message: str
) -> None:
    other = write_bars(tmp_path, "other", num=4, **described)
    with pytest.raises(UserError, match=message):
        fit_image_tzk([corpora[0], other], tmp_path / "tzk", args=ARGS, fit=SHORT)
    assert not (tmp_path / "tzk").exists()


@pytest.mark.parametrize("command", ["fit", "classify"])
def test_pixels_of_other_than_8_bits_are_refused_before_anything_is_written(
    tzk: ImageTzK, tmp_path: Path, command: str
) -> None:
    other = write_bars(tmp_path, "other", levels=256)
    with pytest.raises(
        UserError, match=r"other has pixels that are no multiples of 1/255.*images of 8 bits per number"
    ):
        if command == "fit":
            fit_image_tzk([other], tmp_path / "new" / "tzk", args=ARGS, fit=SHORT)
        else:
            tzk.classify([other], [0])
    assert not (tmp_path / "new").exists()


def test_images_that_do_not_fit_the_scales_are_refused(
    corpora: list[VectorCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"prior.num_scales is 3, but images of 6 x 6 allow at most 2"):
        fit_image_tzk(corpora, tmp_path / "tzk", args=GlowArgs(3, 1, 4), fit=SHORT)
    monkeypatch.setattr(images_module, "LARGEST_IMAGE", 63)
    with pytest.raises(UserError, match=r"an image of dark \+ light has 64 numbers after padding, but .* at most 63"):
        fit_image_tzk(corpora, tmp_path / "tzk", args=ARGS, fit=SHORT)
    assert not (tmp_path / "tzk").exists()


def test_corpora_of_the_same_name_are_refused(corpora: list[VectorCorpus]) -> None:
    with pytest.raises(UserError, match="two corpora have the name dark, so corpus=dark would mean both"):
        Images([corpora[0], corpora[0]], "train", num_scales=2)


def test_seeds_are_checked(tzk: ImageTzK, corpora: list[VectorCorpus]) -> None:
    images = torch.zeros(1, 64)
    for seed in (-1, 2**62):
        for refused in (
            lambda seed=seed: tzk.sample(1, seed=seed),
            lambda seed=seed: tzk.log_prob(images, "way=across", seed=seed),
            lambda seed=seed: tzk.measure(corpora, seed=seed),
            lambda seed=seed: FitArgs(seed=seed),
        ):
            with pytest.raises(UserError, match=f"the seed is {seed}, but it must be"):
                refused()


def test_report_needs_two_images_for_an_error(tzk: ImageTzK, corpora: list[VectorCorpus], tmp_path: Path) -> None:
    for num in (1, 0, -3):
        with pytest.raises(UserError, match=f"num is {num}, but it must be a whole number of at least 2"):
            tzk.measure(corpora, num=num)
    pair = write_bars(tmp_path, "pair", num=2)
    with pytest.raises(UserError, match="1 images of pair test have way=across; the report needs at least two"):
        tzk.measure([pair], ["way=across"])


def test_other_mistakes_are_refused(tzk: ImageTzK, corpora: list[VectorCorpus], tmp_path: Path) -> None:
    shape = [1, 2, SIZE * SIZE // 2]
    wide = write_bars(tmp_path, "wide", num=4, shape=shape)
    with pytest.raises(UserError, match=r"wide has images of the shape \[1, 4, 20\] after padding, not \[1, 8, 8\]"):
        tzk.rank([wide], ["way=across"])
    for row in (600, -1, 10**20, 1.5):
        with pytest.raises(UserError, match=rf"dark test has no row {row}; its rows are 0 to 599"):
            tzk.classify(corpora[:1], [0, row])  # type: ignore[list-item]
    with pytest.raises(UserError, match="no rows were given"):
        tzk.classify(corpora, [])
    with pytest.raises(UserError, match="3 corners were given, but four are needed"):
        tzk.interpolate(corpora, [0, 1, 2])
    with pytest.raises(UserError, match=r"has no label way=down.*`smim tzk images add` adds one"):
        tzk.sample(1, ["way=down"])
    with pytest.raises(UserError, match="no images of the split 'train' have way=diagonal"):
        tzk.add(corpora, "way=diagonal")
    with pytest.raises(UserError, match="images have shape"):
        tzk.log_prob(torch.zeros(5, 3))
    with pytest.raises(UserError, match="block Gibbs sampling needs a label"):
        tzk.sample(1, gibbs_steps=2)
    with pytest.raises(UserError, match=r"settings of labels .* were given, but no labels"):
        fit_image_tzk(corpora, tmp_path / "tzk", args=ARGS, fit=SHORT, knowledge=LABEL)
    with pytest.raises(UserError, match=r"holds a TzK of images; use `smim tzk images ...` for it"):
        open_tzk(tzk.directory)
    with pytest.raises(UserError, match=r"prior.num_scales is 11, but it must be at most 10"):
        GlowArgs(num_scales=11)
    with pytest.raises(UserError, match=r"num_code_layers needs a knowledge.code_dim of at least 2"):
        KnowledgeArgs(code_dim=1, num_code_layers=1)
