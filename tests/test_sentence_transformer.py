"""What sentence-transformers makes of an exported model; all in one process, the library takes seconds to import."""

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import smim
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import save_model
from smim.text.corpus import Corpus
from smim.text.pieces import SentencePieceTokenizer
from tests.models import sentence_args

exported_by = pytest.importorskip(
    "smim.sentence_transformer", reason="sentence-transformers is not installed", exc_type=UserError
)
sentence_transformers = pytest.importorskip("sentence_transformers")


def opened(directory: Path, **options: object):
    return sentence_transformers.SentenceTransformer(str(directory), trust_remote_code=True, device="cpu", **options)


@pytest.fixture(scope="module")
def texts(tiny_corpus: Path) -> list[str]:
    return [*Corpus.open(tiny_corpus).split("test").texts(), "a bank", "words that nobody knows"]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> SentenceModel:
    return smim.load(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported") / "model"
    exported_by.export(tiny_model, directory)
    return directory


@pytest.fixture(scope="module")
def there(exported: Path):
    return opened(exported)


def test_the_codes_are_those_of_smim(there, model: SentenceModel, texts: list[str]) -> None:
    codes = there.encode(texts, batch_size=3)
    assert (codes.dtype, there.get_embedding_dimension(), there.max_seq_length) == (np.float32, 8, 20)
    np.testing.assert_allclose(codes, model.encode(texts), rtol=0, atol=1e-6)
    assert there.encode("a bank").shape == (8,)


def test_a_transformer_with_sentence_pieces_is_exported_too(tmp_path: Path, texts: list[str]) -> None:
    tokenizer = SentencePieceTokenizer.train(texts * 5, algorithm="bpe", vocabulary_size=300)
    args = sentence_args(
        encoder="transformer", decoder="transformer", latent_dim=8, hidden_dim=16, embedding_dim=16, num_heads=2
    )
    autoencoder = SentenceAutoencoder(args, vocabulary_size=tokenizer.vocabulary_size)
    save_model(tmp_path / "model", autoencoder, tokenizer, training={"objective": "amim"})
    exported_by.export(tmp_path / "model", tmp_path / "out")
    expected = smim.load(tmp_path / "model", device="cpu").encode(texts)
    np.testing.assert_allclose(opened(tmp_path / "out").encode(texts), expected, rtol=0, atol=1e-6)


def test_the_directory_alone_is_enough_and_is_still_a_model_of_the_same_hash(
    exported: Path, model: SentenceModel, texts: list[str], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(exported, tmp_path / "moved"))
    assert {path.suffix for path in moved.rglob("*") if path.is_file()} == {".json", ".safetensors", ".md"}
    again = smim.load(moved, device="cpu")
    assert again.hash == model.hash
    decoded = again.decode(opened(moved, local_files_only=True).encode(texts[:3]))
    assert decoded == model.reconstruct(texts[:3]) and len(set(decoded)) == 3


def test_a_model_of_the_package_is_exported_with_its_card_and_its_hash(tmp_path: Path) -> None:
    exported_by.export("english-small", tmp_path / "out")
    assert smim.load(tmp_path / "out").hash == smim.load("english-small").hash
    assert "Merity" in (tmp_path / "out" / "README.md").read_text()
    changed = opened(tmp_path / "out")
    with torch.no_grad():
        for parameter in changed[0].autoencoder.parameters():
            parameter *= 1.1
    changed.save_pretrained(str(tmp_path / "changed"))  # fp16 would round it
    saved = load_file(tmp_path / "changed" / "model.safetensors")
    for name, tensor in changed[0].autoencoder.state_dict().items():
        torch.testing.assert_close(saved[name], tensor, rtol=0, atol=0)


def test_saving_with_sentence_transformers_and_loading_again_gives_the_same(
    there, model: SentenceModel, texts: list[str], tmp_path: Path
) -> None:
    there.save_pretrained(str(tmp_path / "saved"))
    again = opened(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode(texts), there.encode(texts))
    assert smim.load(tmp_path / "saved").hash == model.hash
    assert again.similarity_fn_name == "euclidean"
    again.max_seq_length = 3
    again.save_pretrained(str(tmp_path / "shorter"))
    assert opened(tmp_path / "shorter").max_seq_length == 3


def test_changed_weights_are_saved_as_another_model(exported: Path, model: SentenceModel, tmp_path: Path) -> None:
    changed = opened(exported)
    changed[0].autoencoder.to_mean.bias.data += 1
    changed.save_pretrained(str(tmp_path / "changed"))
    again = smim.load(tmp_path / "changed", device="cpu")
    assert again.hash != model.hash
    np.testing.assert_allclose(again.encode(["a bank"]), model.encode(["a bank"]) + 1, atol=1e-6)


def test_long_texts_are_cut_and_empty_ones_have_a_code(exported: Path, model: SentenceModel) -> None:
    there = opened(exported)
    words = ["the", "old", "minister", "never", "liked", "the", "new", "law"] * 4
    np.testing.assert_allclose(there.encode([" ".join(words)]), model.encode([" ".join(words[:20])]), atol=1e-6)
    there.max_seq_length = 3
    cut, empty, blank = there.encode([" ".join(words), "", "  "])
    np.testing.assert_allclose(cut, model.encode(["the old minister"])[0], atol=1e-6)
    np.testing.assert_array_equal(empty, blank)
    assert np.isfinite(empty).all()


def test_a_prompt_stands_before_each_text(there, model: SentenceModel) -> None:
    np.testing.assert_allclose(
        there.encode(["sold shares"], prompt="a bank "), model.encode(["a bank sold shares"]), atol=1e-6
    )


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_similarity_is_what_was_asked_for(tiny_model: Path, tmp_path: Path, similarity: str) -> None:
    exported_by.export(tiny_model, tmp_path / "out", similarity=similarity)
    there = opened(tmp_path / "out")
    first, second = codes = there.encode(["a bank sold shares", "her brother lost a small house"])
    expected = {
        "euclidean": -np.linalg.norm(first - second),
        "cosine": first @ second / np.linalg.norm(first) / np.linalg.norm(second),
    }
    assert float(there.similarity(codes[:1], codes[1:])) == pytest.approx(expected[similarity], rel=1e-5)


@pytest.mark.parametrize(("metric", "similarity"), [("cosine", "cosine"), ("inner_product", "dot")])
def test_similarity_is_what_the_models_indexes_compare_by(
    model: SentenceModel, tmp_path: Path, metric: str, similarity: str
) -> None:
    training = {"objective": "amim"}
    save_model(tmp_path / "model", model.autoencoder, model.tokenizer, training=training, use={"metric": metric})
    exported_by.export(tmp_path / "model", tmp_path / "out")
    assert opened(tmp_path / "out").similarity_fn_name == similarity
    assert smim.load(tmp_path / "out").use.metric == metric


def test_without_the_flag_the_module_itself_is_loaded(exported: Path, there, texts: list[str]) -> None:
    """As of its version 6, the library imports no class of another package unless the flag says so."""
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        sentence_transformers.SentenceTransformer(str(exported), device="cpu")
    encoder = exported_by.SentenceEncoder.load(str(exported))
    model = sentence_transformers.SentenceTransformer(modules=[encoder], device="cpu")
    np.testing.assert_array_equal(model.encode(texts), there.encode(texts))


def test_code_in_the_directory_is_not_run(exported: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(exported, tmp_path / "model"))
    for name in ("smim.py", "sentence_transformer.py", "SentenceEncoder.py"):
        (directory / name).write_text("raise SystemExit('run')")
    assert opened(directory).encode("a bank").shape == (8,)


def test_mistakes_are_told(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="similarity is 'cosin'; did you mean 'cosine'"):
        exported_by.export(tiny_model, tmp_path / "out", similarity="cosin")
    with pytest.raises(UserError, match="is not a model directory"):
        exported_by.export(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "letters").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an exported model"):
        exported_by.export(tiny_model, tmp_path)
    exported_by.export(tiny_model, exported)  # its own may be written again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters"]


def test_the_whole_model_is_in_one_safetensors_file(exported: Path, tiny_model: Path) -> None:
    assert load_file(exported / "model.safetensors").keys() == load_file(tiny_model / "model.safetensors").keys()


def test_without_sentence_transformers_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.delitem(sys.modules, "smim.sentence_transformer")
    with pytest.raises(UserError, match=r"sentence-transformers 6 or newer is needed .*pip install 'smim\[hub\]'"):
        importlib.import_module("smim.sentence_transformer")
