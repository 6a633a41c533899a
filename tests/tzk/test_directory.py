"""Labels are added by themselves to a TzK directory; what is not whole, or does not belong together, is refused."""

import json
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch

from smim.errors import UserError
from smim.generation import SentenceModel, load
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.latents import Latents
from smim.text.corpus import Corpus
from smim.tzk import FitArgs, KnowledgeArgs, PriorArgs, TzK, fit_tzk, measure, open_tzk
from smim.tzk import directory as files
from smim.tzk.args import GlowArgs
from smim.tzk.codes import Codes
from smim.tzk.images import ImagePrior
from smim.tzk.knowledge import Knowledge
from smim.tzk.labels import Label
from smim.tzk.training import draw
from tests.corpora import write_corpus
from tests.scripts import Script

FIT = FitArgs(num_optimizer_steps=10)
ARGS = KnowledgeArgs(code_dim=2, num_coupling_layers=2, hidden_dim=8)


@pytest.fixture(scope="module")
def made(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny corpus, with the label topic=home."""
    directory = tmp_path_factory.mktemp("tzk") / "tiny"
    corpus, args = Corpus.open(tiny_corpus), PriorArgs(num_coupling_layers=2, hidden_dim=8)
    model = load(tiny_model, device="cpu")
    fit_tzk(model, corpus, directory, model_dir=tiny_model, args=args, fit=FIT).add(
        corpus, "topic=home", args=ARGS, fit=FIT
    )
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "tzk")


@pytest.fixture
def tzk(copy: Path, model: SentenceModel) -> TzK:
    return open_tzk(copy, model=model)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_adding_and_replacing_labels_leaves_all_other_bytes_as_they_are(tzk: TzK, corpus: Corpus) -> None:
    before = contents(tzk.directory)
    assert set(before) == {"tzk.json", "prior.safetensors"} | {
        f"labels/topic=home/knowledge.{kind}" for kind in ("json", "safetensors")
    }
    tzk.add(corpus, "topic=money", args=ARGS, fit=FIT)
    tzk.add(corpus, "topic=politics", args=ARGS, fit=FIT)
    after = contents(tzk.directory)
    assert before.items() <= after.items() and len(after) == len(before) + 4
    tzk.add(corpus, "topic=money", args=ARGS, fit=FitArgs(num_optimizer_steps=12))
    replaced = {name for name, content in contents(tzk.directory).items() if after[name] != content}
    assert replaced == {f"labels/topic=money/knowledge.{kind}" for kind in ("json", "safetensors")}


def test_label_is_the_same_whatever_was_added_before_it(tzk: TzK, corpus: Corpus, made: Path) -> None:
    tzk.add(corpus, "topic=money", args=ARGS, fit=FIT)
    tzk.add(corpus, "topic=home", args=ARGS, fit=FIT)
    assert contents(made).items() <= contents(tzk.directory).items()


def test_opened_again_it_says_what_it_said(tzk: TzK, corpus: Corpus, model: SentenceModel) -> None:
    texts = corpus.split("test").texts()
    knowledge = tzk.add(corpus, "topic=money", args=ARGS, fit=FIT)
    probabilities, codes = tzk.classify(texts), tzk.sample_codes(7, ["topic=money"], seed=3)
    log_prob = tzk.log_prob(codes, "topic=money")
    again = open_tzk(tzk.directory, model=model)
    assert again.labels == ["topic=home", "topic=money"]
    assert np.array_equal(again.classify(texts), probabilities) and probabilities.shape == (10, 2)
    assert torch.equal(again.sample_codes(7, ["topic=money"], seed=3), codes)
    assert torch.equal(again.log_prob(codes, "topic=money"), log_prob)
    assert again.sample(7, ["topic=money"], seed=3) == model.decode(codes)
    assert again.knowledge("topic=money").frequency == knowledge.frequency == 14 / 40


def test_labels_are_learned_jointly_with_the_prior(tzk: TzK, corpus: Corpus, tiny_model: Path, tmp_path: Path) -> None:
    options = {"model_dir": tiny_model, "args": tzk.prior.args, "fit": FIT, "knowledge": ARGS}
    labels = ["topic=home", "topic=money"]
    made = fit_tzk(tzk.model, corpus, tmp_path / "jointly", labels=labels, **options)
    assert made.labels == labels and made.knowledge("topic=money").frequency == 14 / 40
    assert made.card.weights_sha256 != tzk.card.weights_sha256
    with pytest.raises(UserError, match="no sentences of the split 'train' have topic=law"):
        fit_tzk(tzk.model, corpus, tmp_path / "refused", labels=["topic=law"], **options)
    assert not (tmp_path / "refused").exists()


def test_corners_of_an_interpolation_are_the_codes_and_its_middle_is_that_of_z(tzk: TzK, corpus: Corpus) -> None:
    texts = corpus.split("test").texts()[:4]
    codes = torch.from_numpy(tzk.model.encode(texts))
    grid = tzk.interpolate_codes(codes, 3)
    torch.testing.assert_close(grid[[0, 0, 2, 2], [0, 2, 0, 2]], codes, rtol=0, atol=1e-4)
    with torch.no_grad():
        middle, corners = tzk.prior.point(grid[1, 1][None]).z, tzk.prior.point(codes).z
    torch.testing.assert_close(middle[0], corners.mean(0), rtol=0, atol=1e-4)
    decoded = tzk.interpolate(texts, 3)
    assert [decoded[row][column] for row in (0, 2) for column in (0, 2)] == tzk.model.decode(codes)


def test_latents_take_the_place_of_the_model(
    tzk: TzK, corpus: Corpus, tiny_model: Path, tiny_corpus: Path, made: Path, tmp_path: Path
) -> None:
    for name, log_variance in (("whole", True), ("means", False)):
        args = EncodeArgs(rows_per_shard=16, log_variance=log_variance)
        encode_corpus(tiny_model, tiny_corpus, tmp_path / name, args=args)
    whole, means = Latents.open(tmp_path / "whole"), Latents.open(tmp_path / "means")
    options = {"model_dir": tiny_model, "args": tzk.prior.args, "fit": FIT}
    fitted = fit_tzk(tzk.model, corpus, tmp_path / "fitted", latents=whole, **options)
    fitted.add(corpus, "topic=home", latents=whole, args=ARGS, fit=FIT)
    assert contents(fitted.directory) == contents(made)
    ranked = tzk.rank(corpus, ["topic=home"], 5, split="train", latents=means)
    assert ranked == tzk.rank(corpus, ["topic=home"], 5, split="train")
    with pytest.raises(UserError, match=r"encode\.log_variance=true"):
        tzk.add(corpus, "topic=money", latents=means, fit=FIT)
    with pytest.raises(UserError, match="holds latents of another split"):
        tzk.rank(corpus, ["topic=home"], split="test", latents=means)


def test_rank_is_by_the_product_of_the_labels_probabilities(tzk: TzK, corpus: Corpus) -> None:
    tzk.add(corpus, "topic=money", args=ARGS, fit=FIT)
    ranked = tzk.rank(corpus, ["topic=home", "topic=money"], 4)
    expected = tzk.classify(corpus.split("test").texts(), ["topic=home", "topic=money"]).prod(-1)
    assert [each.row for each in ranked] == np.argsort(-expected, kind="stable")[:4].tolist()
    assert [each.probability for each in ranked] == pytest.approx(np.sort(expected)[::-1][:4].tolist())


def test_codes_of_a_deterministic_model_are_points(tzk: TzK, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tzk.model.config["training"], "objective", "autoencoder")
    rows = np.arange(5)
    posterior = Codes(tzk.model, corpus, "train").posterior(rows)
    assert torch.equal(
        draw(posterior, torch.Generator()), torch.from_numpy(tzk.model.encode(corpus.split("train").texts(rows)))
    )
    assert tzk.add(corpus, "topic=money", args=ARGS, fit=FIT).frequency == 14 / 40


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("tzk.json missing", r"holds no TzK \(no tzk.json in it\)"),
        ("tzk.json truncated", "is not valid JSON"),
        ("tzk.json another format", "has TzK format 7, but this version reads 1 and 2"),
        ("tzk.json without a field", "tzk.json: training is missing; it was edited or damaged"),
        ("prior.safetensors missing", "prior.safetensors cannot be loaded, it is missing or damaged.*; fit it again"),
        ("prior.safetensors truncated", "prior.safetensors cannot be loaded, it is missing or damaged.*; fit it again"),
        ("prior.safetensors one bit", "prior.safetensors is not the file that .* names"),
        ("knowledge.json missing", "knowledge.json does not exist"),
        (
            "knowledge.json without a field",
            "knowledge.json: training is missing; .*; add topic=home again",
        ),
        ("knowledge.safetensors missing", "add topic=home again with --force"),
        ("knowledge.safetensors one bit", "add topic=home again with --force"),
    ],
)
def test_what_is_not_whole_is_refused(copy: Path, model: SentenceModel, damage: str, message: str) -> None:
    file, _, kind = damage.partition(" ")
    path = copy / "labels" / "topic=home" / file if file.startswith("knowledge") else copy / file
    content = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[:-9])
    elif kind == "one bit":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    else:
        card = json.loads(content)
        path.write_text(json.dumps({**card, "format": 7} if kind == "another format" else _without(card, "training")))
    with pytest.raises(UserError, match=message):
        open_tzk(copy, model=model).knowledge("topic=home")


def test_format_1_which_called_coupling_layers_steps_is_read(copy: Path, tzk: TzK, model: SentenceModel) -> None:
    for path, args in ((copy / "tzk.json", "prior"), (copy / "labels/topic=home/knowledge.json", "knowledge")):
        card = json.loads(path.read_text())
        settings = {"num_steps" if name == "num_coupling_layers" else name: value for name, value in card[args].items()}
        assert card["format"] == 2 and "num_steps" in settings
        path.write_text(json.dumps({**card, "format": 1, args: settings}))
    old = open_tzk(copy, model=model)
    codes = tzk.sample_codes(3, ["topic=home"])
    assert torch.equal(old.sample_codes(3, ["topic=home"]), codes)
    assert torch.equal(old.log_prob(codes, "topic=home"), tzk.log_prob(codes, "topic=home"))


def _without(card: dict, name: str) -> dict:
    return {key: value for key, value in card.items() if key != name}


def test_another_model_is_refused(copy: Path, long_model: Path) -> None:
    with pytest.raises(UserError, match="was learned from the codes of another model, the one that was at"):
        open_tzk(copy, model=load(long_model, device="cpu"))


def test_label_of_another_prior_is_refused(tzk: TzK, corpus: Corpus, tiny_model: Path, tmp_path: Path) -> None:
    fit = FitArgs(num_optimizer_steps=10, seed=1)
    other = fit_tzk(tzk.model, corpus, tmp_path / "other", model_dir=tiny_model, args=tzk.prior.args, fit=fit)
    shutil.copytree(tzk.directory / "labels", other.directory / "labels")
    with pytest.raises(UserError, match="trained with another prior"):
        other.knowledge("topic=home")


def test_other_content_is_not_replaced(model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists and holds no TzK"):
        fit_tzk(model, corpus, tmp_path, model_dir=tiny_model)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("topic", "'topic' is no label; write column=value"),
        ("topik=home", "has no label column 'topik'; did you mean 'topic'"),
        ("topic=homes", "no sentences of the split 'train' have topic=homes; did you mean 'home'"),
        ("kind=a", "all sentences of the split 'train' have kind=a"),
        ("part=1", "3 sentences of labelled train have part=1, 37 do not; give a corpus with at least 10 of each"),
        ("rare=1", "its column is empty"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(
    tzk: TzK, corpus: Corpus, tmp_path: Path, label: str, message: str
) -> None:
    split = corpus.split("train")
    rows = [
        {"text": text, "topic": topic, "kind": "a", "part": str(int(i < 3)), "rare": None}
        for i, (text, topic) in enumerate(zip(split.texts(), split.labels("topic"), strict=True))
    ]
    write_corpus(tmp_path / "labelled", {"train": rows}, corpus.tokenizer, name="labelled")
    before = contents(tzk.directory)
    with pytest.raises(UserError, match=message):
        tzk.add(Corpus.open(tmp_path / "labelled"), label, fit=FIT)
    assert contents(tzk.directory) == before


def test_rows_without_a_value_are_not_counted_as_without_the_label(tzk: TzK, corpus: Corpus, tmp_path: Path) -> None:
    texts = corpus.split("train").texts()
    rows = [{"text": text, "half/of it.": [None, "1", "2"][i % 3]} for i, text in enumerate(texts)]
    write_corpus(tmp_path / "labelled", {"train": rows}, corpus.tokenizer, name="labelled")
    assert tzk.add(Corpus.open(tmp_path / "labelled"), "half/of it.=1", args=ARGS, fit=FIT).frequency == 0.5
    assert tzk.labels == ["half/of it.=1", "topic=home"]
    assert open_tzk(tzk.directory, model=tzk.model).knowledge("half/of it.=1").frequency == 0.5


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("title=Ω " + "é" * 100, "title=Ω " + "é" * 100),
        ("a/b.c=100%\\\n", "a%2Fb%2Ec=100%25%5C%0A"),
        ("..=\u200b", "%2E%2E=%E2%80%8B"),
    ],
)
def test_only_characters_with_a_meaning_in_names_are_encoded(tmp_path: Path, label: str, name: str) -> None:
    folder = files.label_directory(tmp_path, Label.parse(label))
    assert folder == tmp_path / "labels" / name
    folder.mkdir(parents=True)
    assert files.labels_in(tmp_path) == [Label.parse(label)]


def test_label_in_a_directory_whose_name_an_earlier_version_encoded_is_found(tzk: TzK, model: SentenceModel) -> None:
    new = tzk.directory / "labels" / "topic=café"
    (tzk.directory / "labels" / "topic=home").rename(old := new.with_name(quote(new.name, safe="= ")))
    card = json.loads((old / "knowledge.json").read_text())
    (old / "knowledge.json").write_text(json.dumps({**card, "label": {"column": "topic", "value": "café"}}))
    again = open_tzk(tzk.directory, model=model)
    assert again.labels == ["topic=café"] and again.knowledge("topic=café").frequency == card["frequency"]
    assert files.label_directory(tzk.directory, Label("topic", "café")) == old


def test_label_whose_directory_would_have_too_long_a_name_is_refused_before_the_training(
    tzk: TzK, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"text": text, "of": "é" * 121 if i % 2 else "b"} for i, text in enumerate(corpus.split("train").texts())]
    write_corpus(tmp_path / "long", {"train": rows}, corpus.tokenizer, name="long")
    long, label = Corpus.open(tmp_path / "long"), "of=" + "é" * 121
    for refused in (
        lambda: tzk.add(long, label),
        lambda: tzk.check(long, [label]),
        lambda: fit_tzk(tzk.model, long, tmp_path / "new", model_dir=tiny_model, labels=[label]),
    ):
        with pytest.raises(UserError, match="takes 245 bytes, but at most 240 are possible"):
            refused()
    assert not (tmp_path / "new").exists()


def test_stray_file_among_the_labels_is_ignored(tzk: TzK) -> None:
    (tzk.directory / "labels" / "notes.txt").write_text("mine")
    assert tzk.labels == ["topic=home"]


def test_large_images_of_few_channels_are_saved_and_opened(tmp_path: Path) -> None:
    shape, args = (1, 64, 64), GlowArgs(1, 1, 4)
    sha256 = files.save_prior(tmp_path, ImagePrior(shape, args), training={})
    card, prior = files.load_image_prior(tmp_path)
    assert prior.dim == card.dimension == 4096
    label, few = Label("a", "b"), KnowledgeArgs(code_dim=1, num_coupling_layers=1, hidden_dim=1)
    folder = files.label_directory(tmp_path, label)
    folder.mkdir(parents=True)
    knowledge = Knowledge(prior.dim, few, frequency=0.5, shapes=prior.shapes)
    files.save_knowledge(folder, label, knowledge, prior_sha256=sha256, training={})
    assert files.load_knowledge(tmp_path, label, card).args == few


def test_requests_without_sentences_labels_or_a_valid_seed_are_refused(tzk: TzK, corpus: Corpus) -> None:
    codes = torch.zeros(1, 8)
    for refused, message in (
        (lambda: tzk.classify([]), "no sentences were given"),
        (lambda: tzk.log_odds(codes, []), "no labels were given"),
        (lambda: tzk.rank(corpus, ["topic=home"], 0), "k is 0, but it must be a whole number of at least 1"),
        (lambda: tzk.sample_codes(1, seed=2**62), "the seed is"),
        (lambda: tzk.log_prob(codes, "topic=home", seed=-1), "the seed is -1"),
        (lambda: measure(tzk, corpus, seed=-1), "the seed is -1"),
        (lambda: tzk.sample(1, gibbs_steps=-5), "gibbs_steps is -5"),
        (lambda: tzk.sample(1, gibbs_steps=5), "block Gibbs sampling needs a label"),
    ):
        with pytest.raises(UserError, match=message):
            refused()


def test_labels_that_were_not_added_are_refused_before_any_sentence_is_encoded(
    tzk: TzK, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentenceModel, "posterior_of_ids", lambda *_: pytest.fail("sentences were encoded"))
    for refused in (lambda: tzk.rank(corpus, ["topic=money"]), lambda: measure(tzk, corpus, ["topic=money"])):
        with pytest.raises(UserError, match="has no label topic=money"):
            refused()


@pytest.mark.slow
def test_kill_at_any_moment_leaves_the_label_out_or_in(
    copy: Path, model: SentenceModel, tiny_model: Path, tiny_corpus: Path
) -> None:
    before = contents(copy)

    def add(kill_at: int) -> tuple[int, list[str]]:
        script = ["tests/tzk/adds.py", copy, tiny_model, tiny_corpus, "topic=money"]
        status = Script("tests/kill_at.py", [str(kill_at), *map(str, [copy, *script])]).wait().returncode
        return status, Path(f"{copy}.touches").read_text().splitlines()

    status, touches = add(0)
    added = contents(copy)
    assert status == 0 and before.items() < added.items()
    shutil.rmtree(copy / "labels" / "topic=money")
    rename = max(i for i, touch in enumerate(touches, 1) if touch.startswith("os.rename"))
    for touch in (rename // 2, rename):
        assert add(touch)[0] == -signal.SIGKILL
        assert open_tzk(copy, model=model).labels == ["topic=home"]
        assert before.items() <= contents(copy).items()
    tzk = open_tzk(copy, model=model)
    tzk.add(Corpus.open(tiny_corpus), "topic=money", args=ARGS, fit=FIT)
    assert contents(copy) == added
