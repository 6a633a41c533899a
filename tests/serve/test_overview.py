"""What the service says of its index to a newcomer, and its map: over HTTP, of one process and of shards."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, index_texts
from smim.search import map as maps
from smim.search.sample import sentences, spread
from smim.serve import Client
from smim.serve.app import create_app
from smim.serve.backend import Backend, LocalBackend
from smim.serve.overview import tries_of
from smim.serve.service import Service
from tests.serve.processes import served
from tests.serve.test_app import asking, error
from tests.serve.test_cluster import cluster

SECONDS = 60


@pytest.fixture(params=["one process", "shards"])
def client(request: pytest.FixtureRequest, index: Index) -> Any:
    backend: Backend = cluster(index) if request.param == "shards" else LocalBackend(index.directory, model=index.model)
    with asking(create_app(Service(index.model, backend), page=False)) as client:
        yield client


def get(client: TestClient, path: str) -> Any:
    return client.get(f"/v1/{path}").raise_for_status().json()


def final_map(client: TestClient) -> Any:
    for _ in range(10 * SECONDS):
        found = get(client, "map")
        if found["state"] == "ready":
            return found
        time.sleep(0.1)
    raise TimeoutError("the map is not made")


def test_the_overview_says_what_is_searched_and_what_the_model_can_do(client: TestClient, index: Index) -> None:
    about = get(client, "overview")
    assert about["name"] == "index" and about["index"] == get(client, "index") and about["has_words"]
    assert about["model"] | {"use": None} == {
        "latent_dim": 8,
        "corpus": None,
        "has_meaning_part": False,
        "answers": True,
        "deterministic": False,
        "use": None,
    }
    assert about["model"]["use"]["perturb_scale"] == index.model.use.perturb_scale
    [topic] = about["columns"]
    assert topic["name"] == "topic" and topic["kind"] == "text" and topic["complete"]
    assert {each["value"]: each["count"] for each in topic["values"]} == {
        value: index.count({"topic": value}) for value in ("money", "home", "politics")
    }


def test_the_overview_says_whether_rows_are_texts_of_several_sentences(
    client: TestClient, model: SentenceModel, tmp_path: Path
) -> None:
    assert get(client, "overview")["is_split"] is False
    index_texts(model, ["a bank lost.\n\nshares fell"] * 3, tmp_path / "split", split="sentences")
    with asking(create_app(Service(model, LocalBackend(tmp_path / "split", model=model)), page=False)) as of_texts:
        about = get(of_texts, "overview")
    assert about["is_split"] is True and about["index"]["count"] == 3


def test_what_is_to_be_tried_is_of_the_index_and_changes_with_it(client: TestClient, index: Index) -> None:
    tries = get(client, "overview")["tries"]
    texts = {index.get([id])[0].text for id in range(40)}
    for each in (tries["searches"], *tries["walks"], tries["sum"]):
        assert set(each) <= texts
    assert 1 <= len(tries["searches"]) <= 6 and len(tries["sum"]) == 3
    assert all(first != second for first, second in tries["walks"])
    with IndexWriter(index.directory, model=index.model) as writer:
        writer.delete(range(2, 40))
    left = get(client, "overview")
    assert left["index"]["count"] == 2 and len(left["tries"]["searches"]) >= 1
    with IndexWriter(index.directory, model=index.model) as writer:
        writer.delete([0])
    assert get(client, "overview")["tries"]["searches"] == [index.get([1])[0].text]
    with IndexWriter(index.directory, model=index.model) as writer:
        writer.delete([1])
    assert get(client, "overview")["tries"] == {"searches": [], "walks": [], "sum": [], "questions": []}
    assert get(client, "map")["ids"] == []
    assert "empty" in error(client, 422, "POST", "/v1/map/place", json={"queries": [{"code": [1.0] * 8}]})


def test_searches_to_try_find_what_shares_few_words(model: SentenceModel, asking_model: Path, tmp_path: Path) -> None:
    texts = ["a bank sold shares", "a bank bought shares", "her brother lost a small house", "the old minister never"]
    index = index_texts(model, texts * 2, tmp_path / "index", model_dir=asking_model)
    snapshot = index.snapshot
    places = spread(snapshot, 8)
    tries = tries_of(snapshot, sentences(snapshot, *places), snapshot.codes(*places))
    for chosen in tries.searches:  # no two of the same words
        others = [set(each.split()) for each in tries.searches if each != chosen]
        assert all(len(other & set(chosen.split())) <= 2 for other in others)
    assert len(set(tries.sum)) == 3


def test_a_plain_map_comes_first_and_what_is_made_is_kept(client: TestClient, index: Index) -> None:
    first = get(client, "map")
    assert (first["state"], first["method"]) == ("making", "PCA") and first["ids"] == list(range(40))
    made = final_map(client)
    kept = maps.read(index.directory / maps.FILE)
    assert kept is not None and made["method"] == "t-SNE" and made["ids"] == kept.ids_N.tolist()
    np.testing.assert_allclose(np.array([made["x"], made["y"]]).T, kept.places_N2, atol=1e-4)
    [topic] = made["labels"]
    wanted = [index.get([id])[0].labels["topic"] for id in made["ids"]]
    assert [topic["values"][number] for number in topic["of"]] == wanted
    assert get(client, "map") == made
    tag = client.get("/v1/map").headers["ETag"]
    again = client.get("/v1/map", headers={"If-None-Match": tag})
    assert again.status_code == 304 and not again.content
    assert client.get("/v1/map", headers={"If-None-Match": '"another"'}).json() == made


def test_any_query_is_placed(client: TestClient, index: Index) -> None:
    made = final_map(client)
    text, other = (index.get([id])[0].text for id in (4, 9))
    line = {"first": text, "second": other, "at": 0.0}
    code = index.model.encode([text])[0].tolist()
    queries = [{"text": text}, {"id": 4}, {"line": line}, {"code": code}, {"line": line | {"at": 0.5}}, {"text": "zz"}]
    response = client.post("/v1/map/place", json={"queries": queries})
    places = np.array(response.raise_for_status().json()["places"])
    own = made["x"][4], made["y"][4]
    for place in places[:4]:
        np.testing.assert_allclose(place, own, atol=1e-3)
    assert ((places >= 0) & (places <= 1)).all() and not np.allclose(places[4], own, atol=1e-3)
    assert error(client, 404, "POST", "/v1/map/place", json={"queries": [{"id": 99}]})
    for wrong in ({}, {"queries": []}, {"queries": [{"text": " "}]}, {"queries": [{"text": "a", "id": 1}]}):
        assert error(client, 422, "POST", "/v1/map/place", json=wrong)


def test_the_map_follows_small_changes_and_is_made_anew_after_large_ones(client: TestClient, index: Index) -> None:
    made = final_map(client)
    with IndexWriter(index.directory, model=index.model) as writer:
        writer.delete([0])
        [id] = writer.add(["a bank sold it"])
    changed = get(client, "map")
    assert changed["state"] == "ready" and changed["ids"] == made["ids"][1:] and changed["count"] == 40
    client.post("/v1/map/place", json={"queries": [{"id": id}]}).raise_for_status()
    with IndexWriter(index.directory, model=index.model) as writer:
        writer.add(["the law sold it"] * 10)
    assert get(client, "map")["state"] == "making"
    assert len(final_map(client)["ids"]) == 50


def test_a_map_of_fewer_points_that_was_asked_for_stays(client: TestClient, index: Index) -> None:
    maps.write(maps.lay_out(index.snapshot, points=12), index.directory / maps.FILE)
    found = get(client, "map")
    assert (found["state"], len(found["ids"]), found["count"]) == ("ready", 12, 40)


def test_an_index_that_cannot_be_written_has_a_map_too(
    serve: Callable[..., Service], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != index.directory and may(path, mode))
    with asking(create_app(serve(), page=False)) as client:
        assert final_map(client)["method"] == "t-SNE"
    assert not (index.directory / maps.FILE).exists()


def test_where_no_better_map_can_be_made_the_plain_one_stays(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with asking(create_app(serve(), page=False)) as client:
        assert get(client, "map")["state"] == "making"
        assert final_map(client)["method"] == "PCA"
        assert get(client, "map")["state"] == "ready"  # it is not tried again and again
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == ["map"]


def test_a_client_asks_for_all_of_it(index: Index, tmp_path: Path) -> None:
    with served(index, tmp_path) as (_, address), Client(address) as client:
        about = client.overview()
        assert about.index.count == 40 and about.columns[0].values[0].count > 1
        assert client.map().ids == list(range(40))
        assert len(client.place([{"id": 3}, {"text": about.tries.searches[0]}])) == 2


def test_a_service_that_ends_while_a_map_is_made_ends_at_once(serve: Callable[..., Service]) -> None:
    with asking(create_app(serve(), page=False)) as client:
        assert get(client, "map")["state"] == "making"
        started = time.monotonic()
    assert time.monotonic() - started < 5
