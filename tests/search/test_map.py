"""The map of an index: how it is laid out, kept, read, and what is placed on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter
from smim.search import map as maps
from smim.search.map import Map, Placing
from tests.commands import make_command


@pytest.mark.parametrize("method", ["t-SNE", "PCA"])
def test_near_codes_lie_near_each_other(index: Index, method: str) -> None:
    map = maps.lay_out(index.snapshot, method=method)
    assert map.method == method and map.ids_N.tolist() == list(range(40)) and map.count == 40
    assert map.places_N2.min() == 0 and map.places_N2.max() == 1 and map.places_N2.dtype == np.float32
    codes = index.codes(range(40))

    def nearest(points: np.ndarray) -> np.ndarray:
        squares = ((points[:, None] - points) ** 2).sum(-1)
        np.fill_diagonal(squares, np.inf)
        return np.argsort(squares, axis=1)[:, :5]

    by_code, by_place = nearest(codes), nearest(map.places_N2)
    shared = np.mean([len(set(one) & set(other)) for one, other in zip(by_code, by_place, strict=True)])
    assert shared > 2 * 5 * 5 / 39  # twice what chance would give


def test_it_is_read_as_it_was_written(index: Index, tmp_path: Path) -> None:
    map = maps.lay_out(index.snapshot, points=10, method="PCA")
    assert len(map.ids_N) == 10
    maps.write(map, tmp_path / "map.arrow")
    read = maps.read(tmp_path / "map.arrow")
    assert read is not None
    for name, value in vars(map).items():
        np.testing.assert_array_equal(getattr(read, name), value)
    assert maps.read(tmp_path / "none") is None


def written(tmp_path: Path, **changes: object) -> Path:
    good = Map(1, 3, 3, "hash", "PCA", np.array([0, 2, 5]), np.array([[0, 1], [0.5, 0.5], [1, 0]], np.float32))
    maps.write(replace(good, **changes), tmp_path / "map.arrow")  # type: ignore[arg-type]
    return tmp_path / "map.arrow"


@pytest.mark.parametrize(
    "changes",
    [
        {"ids_N": np.array([0, 5, 2])},
        {"ids_N": np.array([-1, 2, 5])},
        {"ids_N": np.array([0, 2, 2**60])},
        {"places_N2": np.full((3, 2), np.nan, np.float32)},
        {"method": "by hand"},
    ],
)
def test_a_map_that_is_none_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"smim index map"):
        maps.read(written(tmp_path, **changes))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-20]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="map"):
            maps.read(path)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("id", pa.string())])) as to:
        to.write_batch(pa.record_batch([pa.array(["x"])], names=["id"]))
    with pytest.raises(UserError, match="is not a map"):
        maps.read(path)


def test_what_is_placed_lies_among_its_nearest(index: Index) -> None:
    map = maps.lay_out(index.snapshot, method="PCA")
    codes = index.codes(range(40))
    placing = Placing(map, codes)
    np.testing.assert_allclose(placing.place(codes[7:9]), map.places_N2[7:9], atol=1e-4)
    between = placing.place(codes[7:8] + 1e-3)
    assert np.abs(between - map.places_N2[7]).max() < 0.05


def test_a_map_outlives_small_changes_and_not_large_ones(index: Index, model: SentenceModel) -> None:
    map = maps.lay_out(index.snapshot, method="PCA")
    assert map.is_fit(index.manifest) and not map.is_fit(replace(index.manifest, model_hash="another"))
    with IndexWriter(index.directory, model=model) as writer:
        writer.delete([3, 4])
        writer.add(["a bank sold it"])
    kept = map.of(index.snapshot)
    assert set(map.ids_N) - set(kept.ids_N) == {3, 4} and kept.is_fit(index.manifest)
    with IndexWriter(index.directory, model=model) as writer:
        writer.add(["a bank sold it"] * 10)
    assert not map.of(index.snapshot).is_fit(index.manifest)
    with IndexWriter(index.directory, model=model) as writer:
        writer.delete(range(5, 20))
    assert not map.of(index.snapshot).is_fit(index.manifest)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_few_sentences_have_a_map_too(index: Index, model: SentenceModel, left: int) -> None:
    with IndexWriter(index.directory, model=model) as writer:
        writer.delete(range(left, 40))
    map = maps.lay_out(index.snapshot)
    assert map.places_N2.shape == (left, 2) and np.isfinite(map.places_N2).all() and map.method == "PCA"


def test_the_command_keeps_it_beside_the_index(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = make_command(monkeypatch, capsys, "index", "map")
    done = command(index.directory, "--points", 20)
    assert done.status == 0 and "20 sentences on the map" in done.out and "t-SNE" in done.out
    map = maps.read(index.directory / maps.FILE)
    assert map is not None and len(map.ids_N) == 20
    refused = command(index.directory, "--points", 0)
    assert refused.status == 2 and "1 to 1,000,000" in refused.err
