"""Facts about model directories: packaged ones by name, and weights in fp16."""

import shutil

import pytest
import torch

from smim.errors import UserError
from smim.model import directory
from smim.model.directory import load_model, save_model


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


def test_a_directory_goes_before_the_packaged_model_of_its_name(packaged, tmp_path):
    (tmp_path / "tiny-small").mkdir()
    with pytest.raises(UserError, match=r"tiny-small is not a model directory \(no config\.json in it\)"):
        load_model("tiny-small")


def test_an_unknown_name_is_told_those_that_there_are(packaged):
    with pytest.raises(UserError, match=r"tiny-smal is not a model directory.*there is tiny-small"):
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
