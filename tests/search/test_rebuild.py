"""An index whose sentences another model encodes: what it holds stays, and codes are the new model's."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import smim
from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, index_texts, open_index, rebuild_index
from smim.search.manifest import Manifest
from smim.text.fitting import Fitted, TextsChanged

TEXTS = ["a bank sold shares", "her brother lost a small house", "the company bought shares", "the new law"]
LABELS = {"stars": [5, None, 3, 1], "topic": ["money", "home", None, "law"]}


@pytest.fixture
def other(meaning_model: Path) -> SentenceModel:
    """Of other dimensions, with a meaning part."""
    return smim.load(meaning_model, device="cpu")


@pytest.fixture
def old(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> Index:
    index = index_texts(model, TEXTS, tmp_path / "index", model_dir=tiny_model, ids=[3, 9, 4, 20], labels=LABELS)
    with IndexWriter(index.directory, model=model) as writer:
        writer.add(["a bank lost the company", "her brother"], labels={"stars": [2, 4]})
        writer.delete([9, 22])
    return index


def test_texts_ids_and_labels_stay_and_codes_are_the_new_models(
    old: Index, other: SentenceModel, meaning_model: Path
) -> None:
    ids = [3, 4, 20, 21]
    rows, before = old.get(ids), old.manifest
    new = rebuild_index(old.directory, other, model_dir=meaning_model)
    assert new.get(ids) == rows and len(new) == 4
    assert new.manifest.dimension == other.latent_dim != before.dimension
    assert (new.manifest.next_id, new.manifest.metric) == (before.next_id, other.use.metric)
    fresh = index_texts(
        other,
        [row.text for row in rows],
        old.directory.with_name("fresh"),
        model_dir=meaning_model,
        ids=ids,
        labels={name: [row.labels[name] for row in rows] for name in LABELS},
    )
    for mode in ("dense", "sparse", "hybrid"):
        assert new.search(["a bank sold"], 4, mode=mode) == fresh.search(["a bank sold"], 4, mode=mode)
    assert [hit.id for hit in new.search(["a bank"], 4, where={"stars": {"$gte": 3}})[0]]
    with IndexWriter(old.directory, model=other) as writer:
        assert writer.add(["a bank"]) == [23]
    with pytest.raises(UserError, match="smim index rebuild"):
        open_index(old.directory, model=smim.load(before.model, device="cpu"))


def test_a_part_a_factory_and_a_metric_may_be_given(old: Index, other: SentenceModel, meaning_model: Path) -> None:
    how = {"part": "meaning", "metric": "l2", "factory": "HNSW8", "store": "fp16"}
    manifest = rebuild_index(old.directory, other, model_dir=meaning_model, **how).manifest
    assert {name: getattr(manifest, name) for name in how} == how
    assert manifest.dimension == other.dimension_of("meaning")
    again = rebuild_index(old.directory, other, model_dir=meaning_model).manifest
    assert (again.part, again.factory, again.store) == ("meaning", "HNSW8", "fp16")


def test_a_change_meanwhile_is_not_lost(
    old: Index, model: SentenceModel, other: SentenceModel, meaning_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = other.fitted

    def changing(texts: list[str]) -> Fitted:
        with IndexWriter(old.directory, model=model) as writer:
            writer.add(["the old minister"])
        return fitted(texts)

    monkeypatch.setattr(other, "fitted", changing)
    with pytest.raises(UserError, match="was changed by another process meanwhile"):
        rebuild_index(old.directory, other, model_dir=meaning_model)
    assert len(open_index(old.directory, model=model)) == 5
    assert sorted(path.name for path in old.directory.parent.iterdir()) == ["index"]


def test_a_text_that_is_too_long_for_the_new_model_is_cut_and_named(
    other: SentenceModel, meaning_model: Path, long_model: Path, tmp_path: Path
) -> None:
    limit = other.autoencoder.args.max_length
    long = " ".join(["bank"] * (limit + 1))
    index_texts(smim.load(long_model, device="cpu"), [TEXTS[0], long], tmp_path / "long", ids=[1, 77])
    with pytest.warns(TextsChanged, match=f"1 of 2 texts were cut after this model's {limit} tokens: .*, sentence 77"):
        rebuilt = rebuild_index(tmp_path / "long", other, model_dir=meaning_model)
    assert rebuilt.get([77])[0].text == long
    np.testing.assert_allclose(rebuilt.codes([77]), normalised(other.encode(" ".join(["bank"] * limit))), atol=1e-5)


def normalised(code: np.ndarray) -> np.ndarray:
    return (code / np.linalg.norm(code))[None]


def test_an_index_without_a_sentence_is_not_rebuilt(old: Index, other: SentenceModel, meaning_model: Path) -> None:
    with IndexWriter(old.directory, model=old.model) as writer:
        writer.delete([3, 4, 20, 21])
    before = Manifest.read(old.directory)
    with pytest.raises(UserError, match="holds no sentence"):
        rebuild_index(old.directory, other, model_dir=meaning_model)
    assert Manifest.read(old.directory) == before


def test_the_command_line_rebuilds(old: Index, meaning_model: Path) -> None:
    refused = CliRunner().invoke(app, ["search", str(old.directory), "a bank", "--model", str(meaning_model)])
    assert f"`smim index rebuild {old.directory} --model MODEL`" in str(refused.exception)
    done = CliRunner().invoke(app, ["index", "rebuild", str(old.directory), "--model", str(meaning_model)])
    assert done.exit_code == 0 and done.stdout.startswith("4 sentences in ")
    found = CliRunner().invoke(app, ["search", str(old.directory), "a bank", "-k", "2"])
    assert len(found.stdout.splitlines()) == 2
