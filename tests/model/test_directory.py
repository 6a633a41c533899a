"""Facts about model directories: packaged ones by name, weights in fp16, and what is refused."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import smim
from smim import vector_model
from smim.errors import UserError
from smim.model import directory
from smim.model.directory import load_model, save_model
from smim.model.mlp import VectorAutoencoder
from smim.model.use import Literal, Use
from tests.models import vector_args


@pytest.fixture
def packaged(tiny_model, tmp_path, monkeypatch):
    """A package that comes with one model, `tiny-small`."""
    shutil.copytree(tiny_model, tmp_path / "pretrained" / "tiny-small")
    monkeypatch.setattr(directory, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pretrained" / "tiny-small"


def test_a_packaged_model_is_loaded_by_its_name(packaged, tiny_model):
    one, other = load_model("tiny-small")[0], load_model(tiny_model)[0]
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize(
    ("training", "deterministic"),
    [
        ({"objective": "mine", "deterministic": True}, True),
        ({"objective": "autoencoder", "deterministic": False}, False),
        # Directories of before name the objective alone.
        ({"objective": "autoencoder"}, True),
        ({"objective": "probabilistic_autoencoder"}, False),
    ],
)
def test_whether_codes_are_means_is_what_the_directory_says(model, tmp_path, training, deterministic):
    save_model(tmp_path / "words", model.autoencoder, model.tokenizer, training=training)
    save_model(tmp_path / "vectors", VectorAutoencoder(vector_args(), 3), None, training=training)
    assert smim.load(tmp_path / "words", device="cpu").deterministic is deterministic
    assert vector_model.load(tmp_path / "vectors").deterministic is deterministic


def test_a_directory_that_does_not_say_yes_or_no_is_refused(model, tmp_path):
    training = {"objective": "amim", "deterministic": "no"}
    save_model(tmp_path / "words", model.autoencoder, model.tokenizer, training=training)
    with pytest.raises(UserError, match=r"training\.deterministic is neither true nor false"):
        smim.load(tmp_path / "words", device="cpu")


def test_a_directory_goes_before_the_packaged_model_of_its_name(packaged, tmp_path):
    (tmp_path / "tiny-small").mkdir()
    with pytest.raises(UserError, match=r"tiny-small is not a model directory \(it has no config\.json\)"):
        load_model("tiny-small")


def test_an_unknown_name_is_told_those_that_there_are(packaged):
    with pytest.raises(UserError, match=r"tiny-smal is not a model directory.*come with the package: tiny-small"):
        load_model("tiny-smal")


def test_half_weights_take_half_the_room_and_are_whole_when_loaded(tiny_model, tmp_path):
    model, tokenizer, _ = load_model(tiny_model)
    for half in (False, True):
        save_model(tmp_path / str(half), model, tokenizer, training={"objective": "amim"}, half=half)
    large, small = ((tmp_path / str(half) / "model.safetensors").stat().st_size for half in (False, True))
    assert small < 0.6 * large
    loaded, _, _ = load_model(tmp_path / "True")
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def edit(model_dir, **changes):
    """Changes the configuration: of the model's settings what they have, else what stands beside them."""
    config = json.loads((model_dir / "config.json").read_text())
    for name, value in changes.items():
        part, _, setting = name.rpartition(".")
        place = config["model"][part] if part else config["model"]
        (place if setting in place else config)[setting] = value
    (model_dir / "config.json").write_text(json.dumps(config))


def other_weights(model_dir):
    """Those of another training: of the same names and shapes."""
    weights = load_file(model_dir / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, model_dir / "model.safetensors")


def test_other_weights_of_the_same_shape_are_refused_by_name(copy):
    other_weights(copy)
    with pytest.raises(UserError, match=rf"^{copy / 'model.safetensors'} is not the file that .* names"):
        smim.load(copy)


def test_vector_model_with_other_weights_is_refused(tmp_path):
    model = VectorAutoencoder(vector_args(), dimension=3)
    save_model(tmp_path / "model", model, None, training={"objective": "amim"})
    assert load_model(tmp_path / "model", "vector")[2]["input_size"] == 3
    other_weights(tmp_path / "model")
    with pytest.raises(UserError, match=r"model\.safetensors is not the file that .* names"):
        load_model(tmp_path / "model", "vector")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 10**9}, "the shapes of the weights differ"),
        ({"encoder.hidden_dim": 2**62}, "the shapes of the weights differ"),
        ({"encoder": {"name": "transformer", "num_layers": 10**9}}, "the shapes of the weights differ"),
        ({"num_prior_components": 10**9, "prior": "vamp"}, "the shapes of the weights differ"),
        ({"input_size": 20_000_000}, "is not the one that this model was trained with"),
        ({"encoder": {"name": "__class__"}}, r"config\.json: model\.encoder is '__class__'"),
        ({"encoder.hiden_dim": 3}, "hiden_dim is not known"),
        ({"encoder": {"name": "gru", "hiden_dim": 3}}, r"model\.encoder\.hiden_dim is not known; .*'hidden_dim'"),
        ({"encoder": {"name": "mlp"}}, r"model\.encoder=mlp is for vectors; model\.decoder=gru is for sentences"),
        ({"latent_dim": "8"}, r"config\.json: model\.latent_dim is '8', but it must be a whole number"),
        ({"latent_dim": None}, r"model\.latent_dim is None"),
        ({"weights_sha256": None}, "weights_sha256 is None, but it must be text"),
        ({"training": {}}, r"training\.objective is missing"),
        ({"extra": 1}, "extra is not known"),
    ],
)
def test_settings_that_the_weights_have_not_are_refused_before_anything_is_made(copy, changes, message):
    edit(copy, **changes)
    with pytest.raises(UserError, match=message):
        load_model(copy)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(copy):
    for name in ("model.safetensors", "config.json", "tokenizer/tokenizer.json"):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        os.mkfifo(copy / name)
        with pytest.raises(UserError, match=r"is not a regular file|is not a model directory"):
            load_model(copy)
        (copy / name).unlink()
        (copy / name).write_bytes(content)
    load_model(copy)


def test_a_snapshot_of_the_hub_is_links_to_its_blobs_and_no_others(copy, tmp_path):
    repository = tmp_path / "models--our-team--tiny"
    snapshot = repository / "snapshots" / "0123"
    (snapshot / "tokenizer").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, name in enumerate(("config.json", "model.safetensors", "tokenizer/tokenizer.json")):
        shutil.copy(copy / name, repository / "blobs" / str(number))
        (snapshot / name).symlink_to(os.path.relpath(repository / "blobs" / str(number), (snapshot / name).parent))
    load_model(snapshot)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(copy / "model.safetensors")
    with pytest.raises(UserError, match="is a link to a file outside of"):
        load_model(snapshot)


def test_how_a_model_is_used_may_be_edited_and_it_stays_the_same_model(tiny_model, tmp_path):
    copied = shutil.copytree(tiny_model, tmp_path / "model")
    before = smim.load(copied, device="cpu")
    assert before.use == Use()
    edit(copied, use={"metric": "cosine", "literal": {"candidates": 3}})
    after = smim.load(copied, device="cpu")
    assert after.use == Use(metric="cosine", literal=Literal(candidates=3)) and after.hash == before.hash
    edit(copied, smim_version="0.0.1")
    assert smim.load(copied, device="cpu").hash != before.hash


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({"metric": "cosin"}, r"config\.json: use\.metric is 'cosin'; did you mean 'cosine'"),
        ({"sample": 3}, r"config\.json: use\.sample is 3"),
        ({"literal": {"candidates": 10**6}}, r"use\.literal\.candidates is 1000000, but it must be at most 256"),
        ({"metrics": "l2"}, r"use\.metrics is not known; did you mean 'metric'"),
        ([], r"config\.json: use is \[\]"),
    ],
)
def test_a_use_that_is_none_is_one_clear_message(tiny_model, tmp_path, use, message):
    copied = shutil.copytree(tiny_model, tmp_path / "model")
    edit(copied, use=use)
    with pytest.raises(UserError, match=message):
        smim.load(copied, device="cpu")


def test_a_model_that_says_nothing_of_its_use_answers_if_its_corpus_did(tiny_model, tmp_path):
    for corpus, answers in (("yahoocqa", True), ("tiny", False)):
        copied = shutil.copytree(tiny_model, tmp_path / corpus)
        edit(copied, use=None, training={"objective": "amim", "corpus": corpus})
        assert smim.load(copied, device="cpu").use == Use(answers=answers)


def test_a_card_says_what_is_unlike_other_models(meaning_model, tiny_model):
    card = (meaning_model / "README.md").read_text()
    assert "## Defaults of use\n\n| setting | value |" in card
    assert "| metric | cosine |" in card and "| literal.interpolate | 0.0 |" in card
    assert "## Defaults of use" not in (tiny_model / "README.md").read_text()
