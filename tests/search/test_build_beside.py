"""An index whose segments are built beside each other, in processes or on Ray, is the one that is built alone."""

import sys
from pathlib import Path

import numpy as np
import pytest

import smim
from smim.engine import EngineArgs
from smim.errors import SmimError, UserError
from smim.generation import SentenceModel
from smim.search import Index, build_index, rows
from smim.search.build import BuildArgs
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.latents import Latents
from smim.text.corpus import Corpus
from tests.commands import make_command
from tests.ray_elsewhere import RayElsewhere

QUERIES = ["a bank sold shares", "her brother lost the new law"]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stands for a cluster, whose tasks run twice, in another folder than the job."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setitem(sys.modules, "ray", RayElsewhere(elsewhere, times=2))


def answers(index: Index) -> list[list[tuple[int, str, float]]]:
    return [[(hit.id, hit.text, hit.distance) for hit in hits] for hits in index.search(QUERIES, 12)]


def files(index: Index) -> dict[str, str]:
    """The checksum of each file of the segments."""
    infos = index.manifest.segments
    return {f"{info.name}/{name}": file.sha256 for info in infos for name, file in info.files.items()}


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat", "IVF2,PQ2x4"])
def test_it_is_the_same_as_built_alone(
    model: SentenceModel, odd_corpus: Path, tiny_model: Path, long_model: Path, tmp_path: Path, factory: str
) -> None:
    long, corpus = smim.load(long_model, device="cpu"), Corpus.open(odd_corpus)
    options = {"model_dir": long_model, "split": "test", "factory": factory, "num_segments": 3}
    alone = build_index(long, corpus, tmp_path / "alone", **options)
    beside = build_index(long, corpus, tmp_path / "beside", **options, engine=EngineArgs(engine="ray"))
    assert files(beside) == files(alone) and len(beside.manifest.segments) == 3
    assert sorted(path.name for path in beside.directory.iterdir()) == sorted(
        path.name for path in alone.directory.iterdir()
    )
    assert answers(beside) == answers(alone)


def test_processes_build_a_segment_each(
    model: SentenceModel, tiny_corpus: Path, tiny_model: Path, tmp_path: Path
) -> None:
    corpus = Corpus.open(tiny_corpus)
    alone = build_index(model, corpus, tmp_path / "alone", model_dir=tiny_model)
    beside = build_index(model, corpus, tmp_path / "beside", model_dir=tiny_model, engine=BuildArgs(workers=2))
    assert [info.count for info in beside.manifest.segments] == [20, 20]
    for one, other in zip(answers(beside), answers(alone), strict=True):
        assert [(id, text) for id, text, _ in one] == [(id, text) for id, text, _ in other]
        np.testing.assert_allclose([each[2] for each in one], [each[2] for each in other], atol=1e-5)
    assert beside.get([0, 39]) == alone.get([0, 39])


@pytest.mark.usefixtures("ray")
def test_the_command_takes_an_engine(
    tiny_corpus: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = make_command(monkeypatch, capsys, "index", "build", str(tiny_model))
    done = command(tiny_corpus, "-o", tmp_path / "index", "--engine", "ray", "--workers", 2, "--segments", 2)
    assert done.status == 0 and "40 sentences" in done.out
    for wrong, told in (
        (["--engine", "rai"], "build.engine is 'rai'; did you mean 'ray'"),
        (["--workers", "2"], "need --engine local"),
        (["--engine", "local", "--ray-address", "a:1"], "build.address works only with build.engine=ray"),
        (["--engine", "local", "--workers", "0"], "build.workers"),
    ):
        refused = command(tiny_corpus, "-o", tmp_path / "other", *wrong)
        assert refused.status == 2 and told in refused.err, refused.err
    (tmp_path / "mine.txt").write_text("a bank sold shares\n")
    refused = command(tmp_path / "mine.txt", "-o", tmp_path / "other", "--engine", "local")
    assert refused.status == 2 and "--engine works only with a prepared corpus" in refused.err
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("ray")
def test_what_fails_in_a_worker_leaves_what_was_there(
    model: SentenceModel, tiny_corpus: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus.open(tiny_corpus)
    before = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model)

    def fail(task: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(rows, "build_segment", fail)
    with pytest.raises((UserError, SmimError)):
        build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, engine=EngineArgs(engine="ray"))
    assert answers(before) and not list(tmp_path.glob(".*.partial"))


@pytest.mark.slow
def test_a_real_ray_builds_it_from_latents(
    model: SentenceModel, tiny_corpus: Path, tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "latents", args=EncodeArgs(rows_per_shard=16))
    corpus, latents = Corpus.open(tiny_corpus), Latents.open(tmp_path / "latents")
    options = {"model_dir": tiny_model, "latents": latents, "num_segments": 2}
    alone = build_index(model, corpus, tmp_path / "alone", **options)
    beside = build_index(model, corpus, tmp_path / "beside", **options, engine=EngineArgs(engine="ray", workers=2))
    assert files(beside) == files(alone) and answers(beside) == answers(alone)
