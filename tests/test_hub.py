"""Models go to the Hugging Face hub and come back; the hub is a server on loopback."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import smim
from smim.errors import UserError
from smim.teaching import TeachArgs, teach
from smim.text.teacher import Teacher
from tests.hub_server import TOKEN, Hub, Repository, running_hub
from tests.teachers import write_teacher

hub = pytest.importorskip("smim.hub", reason="huggingface_hub is not installed", exc_type=UserError)
NAME = "our-team/tiny"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with nothing in it, and a machine without cache and login."""
    from huggingface_hub import constants

    with running_hub() as server:
        # What the library makes of HF_ENDPOINT and HF_HOME when it is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def model_dir(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model with a file that is none of its own beside it."""
    directory = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (directory / "optimizer.bin").write_bytes(b"no part of the model")
    return directory


def test_a_model_comes_back_from_the_hub_as_it_went_there(server: Hub, model_dir: Path) -> None:
    address = hub.push_to_hub(model_dir, NAME, token=TOKEN, message="The first one")
    repository = server.repositories[NAME]
    assert address == f"{server.url}/{NAME}/commit/{repository.commit_of('main')}"
    assert (repository.visibility, repository.messages) == ("private", ["The first one"])
    there, here = smim.from_hub(NAME, token=TOKEN, device="cpu"), smim.load(model_dir, device="cpu")
    assert there.hash == here.hash
    np.testing.assert_array_equal(there.encode(["a bank sold shares"]), here.encode(["a bank sold shares"]))


def test_a_model_that_comes_with_the_package_goes_up_by_its_name(server: Hub) -> None:
    hub.push_to_hub("english-small", NAME, token=TOKEN)
    assert smim.from_hub(NAME, token=TOKEN).hash == smim.load("english-small").hash
    [files] = server.repositories[NAME].commits.values()
    assert "Merity" in files["README.md"].decode()


def test_only_the_files_of_the_model_go_up_and_come_down(server: Hub, model_dir: Path, tmp_path: Path) -> None:
    hub.push_to_hub(model_dir, NAME, private=False, token=TOKEN)
    [files] = server.repositories[NAME].commits.values()
    assert sorted(files) == ["README.md", "config.json", "model.safetensors", "tokenizer/tokenizer.json"]
    files["pytorch_model.bin"] = b"a pickle"
    smim.from_hub(NAME, device="cpu")
    fetched = {path.name for path in (tmp_path / "cache").glob("*/snapshots/**/*") if path.is_file()}
    assert fetched == {"config.json", "model.safetensors", "tokenizer.json"}


def test_the_card_tells_the_hub_of_the_library_and_keeps_what_the_owner_wrote(server: Hub, model_dir: Path) -> None:
    from huggingface_hub import ModelCard

    hub.push_to_hub(model_dir, NAME, token=TOKEN)
    text = (model_dir / "README.md").read_text()
    (model_dir / "README.md").write_text(f"---\nlicense: mit\ntags: [poems]\nlibrary_name: other\n---\n{text}")
    hub.push_to_hub(model_dir, NAME, token=TOKEN)
    first, second = (ModelCard(files["README.md"].decode()) for files in server.repositories[NAME].commits.values())
    assert first.data.to_dict() == {
        "library_name": "smim", "pipeline_tag": "feature-extraction", "tags": ["smim", "text-autoencoder"],
    }  # fmt: skip
    assert f'smim.from_hub("{NAME}")' in first.content and "PATH/OF" not in first.content
    assert (second.data.license, second.data.library_name) == ("mit", "other")
    assert second.data.tags == ["poems", "smim", "text-autoencoder"]


def test_a_revision_is_loaded_as_it_was(server: Hub, model_dir: Path, long_model: Path) -> None:
    hub.push_to_hub(model_dir, NAME, token=TOKEN)
    first = server.repositories[NAME].commit_of("main")
    hub.push_to_hub(long_model, NAME, token=TOKEN)
    assert smim.from_hub(NAME, revision=first, token=TOKEN).hash == smim.load(model_dir).hash
    assert smim.from_hub(NAME, token=TOKEN).hash == smim.load(long_model).hash
    with pytest.raises(UserError, match=r"our-team/tiny has no revision 'v9'; give a branch, a tag or a commit"):
        smim.from_hub(NAME, revision="v9", token=TOKEN)


def test_a_model_that_was_fetched_is_loaded_without_a_network(
    server: Hub, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.push_to_hub(model_dir, NAME, token=TOKEN)
    fetched = smim.from_hub(NAME, token=TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert smim.from_hub(NAME).hash == fetched.hash
    with pytest.raises(UserError, match=r"cannot be reached .*offline mode.*, and our-team/other is not in .*cache"):
        smim.from_hub("our-team/other")
    with pytest.raises(UserError, match=r"http://127.* cannot be reached: .*offline mode"):
        hub.push_to_hub(model_dir, NAME, token=TOKEN)


def test_what_the_hub_refuses_is_told_in_words(server: Hub, model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"refuses our-team/tiny, because you are not logged in; log in with `hf auth login`"
    ):
        hub.push_to_hub(model_dir, NAME)
    hub.push_to_hub(model_dir, NAME, token=TOKEN)
    for name in (NAME, "our-team/absent"):  # the hub does not tell what is private from what there is not
        with pytest.raises(UserError, match=rf"has no model {name}, or you may not see it; check the name, or log in"):
            smim.from_hub(name)
    with pytest.raises(UserError, match=r"'a/b/c' is not a model's name on the hub; write it as ORGANISATION"):
        smim.from_hub("a/b/c")
    with pytest.raises(UserError, match="is not a model directory"):
        hub.push_to_hub(tmp_path, "our-team/nothing", token=TOKEN)
    assert list(server.repositories) == [NAME]


def test_a_hub_that_is_not_there_is_told(server: Hub, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(
        UserError, match=r"http://127.0.0.1:9 cannot be reached .*, and our-team/tiny is not in .*cache"
    ):
        smim.from_hub(NAME)
    with pytest.raises(UserError, match=r"http://127.0.0.1:9 cannot be reached: "):
        hub.push_to_hub(model_dir, NAME, token=TOKEN)


def test_another_librarys_model_is_told_from_ours(server: Hub, model_dir: Path) -> None:
    hub.push_to_hub(model_dir, NAME, private=False, token=TOKEN)
    [files] = server.repositories[NAME].commits.values()
    files["config.json"] = b'{"model_type": "bert"}'
    with pytest.raises(UserError, match="our-team/tiny of the hub is not a sentenceMIM model, or is damaged"):
        smim.from_hub(NAME)


def test_without_huggingface_hub_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "smim.hub")
    with pytest.raises(UserError, match=r"huggingface_hub is needed .*pip install 'smim\[hub\]'"):
        _ = smim.from_hub


def test_a_teacher_comes_from_the_hub_without_pickles_and_other_forms(
    server: Hub, tiny_corpus: Path, tmp_path: Path
) -> None:
    here = write_teacher(tmp_path / "teacher")
    files = {path.name: path.read_bytes() for path in here.iterdir()}
    others = {"pytorch_model.bin": b"a pickle", "onnx/model.json": b"{}"}
    server.repositories[NAME] = Repository("public", {"c0" * 20: {**files, **others}})
    args = TeachArgs(precision="fp32")
    own, fetched = (
        Teacher.open(teach(tiny_corpus, teacher=name, output=tmp_path / f"of-{i}", args=args))
        for i, name in enumerate([str(here), NAME])
    )
    assert (fetched.teacher, fetched.teacher_hash, fetched.hash) == (NAME, own.teacher_hash, own.hash)
    names = {path.name for path in (tmp_path / "cache").glob("*/snapshots/**/*") if path.is_file()}
    assert names == set(files)
    with pytest.raises(UserError, match=r"has no model our-team/other"):
        teach(tiny_corpus, teacher="our-team/other", output=tmp_path / "out", args=args)
