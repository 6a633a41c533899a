"""The encoding job: the right codes, the same bytes on any processes and after a kill, and refusals."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from smim import config
from smim.errors import SmimError, UserError
from smim.generation import SentenceModel
from smim.search import encode as encode_module
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.latents import Latents
from smim.text.corpus import Corpus
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.ray_elsewhere import RayElsewhere
from tests.scripts import run_script
from tests.search.test_index import other_model
from tests.training.conftest import ROOT, environment

SCRIPT = "smim/search/encode.py"
SMALL = EncodeArgs(rows_per_shard=2)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def encoded(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows in twenty shards, encoded by one process."""
    directory = tmp_path_factory.mktemp("latents") / "tiny"
    encode_corpus(tiny_model, tiny_corpus, directory, args=SMALL)
    return directory


def test_codes_are_the_models_row_by_row(encoded: Path, model: SentenceModel, corpus: Corpus) -> None:
    expected = model.encode(corpus.split("train").texts())
    np.testing.assert_allclose(Latents.open(encoded).mean(range(40)), expected, atol=1e-6)


def test_fp16_and_log_variances_are_stored_where_that_is_asked_for(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    args = EncodeArgs(split="test", dtype="fp16", log_variance=True)
    encode_corpus(tiny_model, corpus.directory, tmp_path / "half", args=args)
    latents, posterior = Latents.open(tmp_path / "half"), model.posterior(corpus.split("test").texts())
    assert np.load(tmp_path / "half" / "mean-00000.npy").dtype == np.float16
    assert latents.dtype == "fp16" and latents.split == "test"
    assert (latents.mean(range(10)) == posterior.mean.half().float().numpy()).all()
    assert (latents.log_variance(range(10)) == posterior.log_variance.half().float().numpy()).all()


def test_two_processes_write_the_same_bytes_as_one(
    encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    job = [f"model.dir={tiny_model}", f"corpus.dir={tiny_corpus}", f"output={tmp_path / 'two'}"]
    finished = run_script(SCRIPT, [*job, "encode.rows_per_shard=2"], processes=2)
    assert finished.returncode == 0, finished.stderr
    assert "process 1 of 2: 20 sentences" in finished.stderr
    assert contents(tmp_path / "two") == contents(encoded)
    assert os.listdir(tmp_path) == ["two"]


def test_workers_write_the_same_bytes_as_this_process(
    encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    args = EncodeArgs(rows_per_shard=2, workers=2)
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "workers", args=args)
    assert contents(tmp_path / "workers") == contents(encoded)


@pytest.mark.slow
def test_ray_writes_the_same_bytes(encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    args = EncodeArgs(rows_per_shard=2, engine="ray", workers=2)
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "ray", args=args)
    assert contents(tmp_path / "ray") == contents(encoded)


def test_tasks_that_ray_runs_twice_write_their_own_shards_once(
    encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", RayElsewhere(tmp_path, times=2))
    written = []
    encode_shard = encode_module.encode_shard
    monkeypatch.setattr(encode_module, "encode_shard", lambda *a: (written.append(a[3]), encode_shard(*a)))
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "out", args=EncodeArgs(rows_per_shard=2, engine="ray"))
    assert written == list(range(20))
    assert contents(tmp_path / "out") == contents(encoded)


def test_a_killed_job_goes_on_without_encoding_finished_shards_again(
    encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "folder" / "out"
    job = [f"model.dir={tiny_model}", f"corpus.dir={tiny_corpus}", f"output={output}", "encode.rows_per_shard=2"]
    command = [sys.executable, "tests/kill_at.py", "40", str(output.parent), SCRIPT, *job]
    killed = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists()
    left = output.parent / ".out.work"
    done = {path.name for path in (left / "done").glob("*.json")}
    assert 3 < len(done) < 17
    # One that is finished is damaged meanwhile, one of which the mark is missing is there.
    (left / "result" / "mean-00001.npy").write_bytes(b"")
    (left / "done" / "00002.json").unlink()
    again = []
    encode_shard = encode_module.encode_shard
    monkeypatch.setattr(encode_module, "encode_shard", lambda *a: (again.append(a[3]), encode_shard(*a)))
    encode_corpus(tiny_model, tiny_corpus, output, args=SMALL)
    assert again == sorted({1, 2} | {n for n in range(20) if f"{n:05d}.json" not in done})
    assert contents(output) == contents(encoded)
    assert os.listdir(output.parent) == ["out"]


def test_what_a_job_of_other_settings_left_is_not_used(
    encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SmimError("killed")

    with monkeypatch.context() as patch, pytest.raises(SmimError, match="killed"):
        patch.setattr(encode_module, "write_card", fail)
        encode_corpus(tiny_model, tiny_corpus, tmp_path / "out", args=EncodeArgs(rows_per_shard=2, dtype="fp16"))
    assert len(os.listdir(tmp_path / ".out.work" / "done")) == 20
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "out", args=SMALL)
    assert contents(tmp_path / "out") == contents(encoded)


def test_latents_that_are_there_are_kept_and_others_replaced(
    encoded: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(encoded, tmp_path / "out")
    inode = (output / "latents.json").stat().st_ino
    encode_corpus(tiny_model, tiny_corpus, output, args=SMALL)
    assert (output / "latents.json").stat().st_ino == inode
    encode_corpus(tiny_model, tiny_corpus, output, args=EncodeArgs(split="valid"))
    assert Latents.open(output).split == "valid" and os.listdir(tmp_path) == ["out"]


def test_a_directory_of_something_else_is_left_alone(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not a directory of latents; give another output"):
        encode_corpus(tiny_model, tiny_corpus, tmp_path / "thesis", args=EncodeArgs())
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_wrong_corpora_and_splits_are_refused_and_nothing_is_left(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    tokenizer = WordTokenizer.train(["other words"], splitter="whitespace")
    write_corpus(tmp_path / "other", {"train": [{"text": "other words"}]}, tokenizer, name="other")
    for corpus, args, message in [
        (tmp_path / "other", EncodeArgs(), "prepared with another tokenizer than the model's"),
        (tiny_corpus, EncodeArgs(split="trian"), "no split 'trian'; did you mean 'train'"),
        (tiny_model, EncodeArgs(), "is not a prepared corpus"),
    ]:
        with pytest.raises(UserError, match=message):
            encode_corpus(tiny_model, corpus, tmp_path / "out", args=args)
    assert os.listdir(tmp_path) == ["other"]


def test_settings_that_cannot_be_are_refused_together() -> None:
    with pytest.raises(UserError) as refused:
        EncodeArgs(engine="rya", dtype="fp8", rows_per_shard=0, address="host:1")
    for message in (
        "encode.engine is 'rya'; did you mean 'ray'",
        "encode.dtype is 'fp8'",
        "encode.rows_per_shard is 0",
    ):
        assert message in str(refused.value)
    assert "encode.address works only with encode.engine=ray" in str(refused.value)
    with pytest.raises(UserError, match=r"encode\.workers is 0"):
        EncodeArgs(workers=0)


def test_codes_beyond_what_fp16_holds_are_an_error(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = encode_module.generation.load

    def load_and_inflate(*args: object, **options: object) -> SentenceModel:
        model = load(*args, **options)
        model.autoencoder.to_mean.bias.data[3] = 1e5
        return model

    monkeypatch.setattr(encode_module.generation, "load", load_and_inflate)
    with pytest.raises(SmimError, match=r"rows 0 to 39 of tiny train, the mean is NaN or too large for fp16"):
        encode_corpus(tiny_model, tiny_corpus, tmp_path / "half", args=EncodeArgs(dtype="fp16"))
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "full", args=EncodeArgs())


def test_another_model_under_the_same_name_starts_anew(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, encoded: Path
) -> None:
    output = shutil.copytree(encoded, tmp_path / "out")
    encode_corpus(other_model(tmp_path / "other", tiny_model), tiny_corpus, output, args=SMALL)
    assert contents(output)["mean-00003.npy"] != contents(encoded)["mean-00003.npy"]


def test_the_configuration_is_whole_and_its_mistakes_are_told() -> None:
    composed = config.compose("encode", [])
    assert set(composed.encode) == {field.name for field in fields(EncodeArgs)}
    with pytest.raises(UserError, match=r"unknown key encode\.dtyp; did you mean 'encode\.dtype'"):
        config.compose("encode", ["encode.dtyp=fp16"])
    with pytest.raises(UserError, match=r"give model\.dir=DIR of a trained model"):
        encode_module.main(composed)
