"""Each route over HTTP, and what each mistake is told."""

import datetime
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import smim
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, index_texts
from smim.search.labels import jsonable
from smim.search.query import Hit, SearchResult
from smim.serve.access import Access
from smim.serve.app import create_app
from smim.serve.backend import LocalBackend
from smim.serve.keys import Keys
from smim.serve.limits import Limits
from smim.serve.middleware import log_to_stderr
from smim.serve.service import Service
from smim.text.corpus import Corpus
from tests.search.test_filters import LARGE
from tests.search.test_index import other_model
from tests.serve.test_keys import GOOD, READER, WRITER, write

ONE, OTHER = "the company sold shares", "her brother lost a small house"
Make = Callable[..., Service]
AS_WRITER = {"Authorization": f"Bearer {WRITER}"}


def asking(app: FastAPI, **options: Any) -> TestClient:
    """A client of an application on loopback."""
    return TestClient(app, base_url="http://localhost", **options)


@pytest.fixture(scope="module")
def client(unchanged: Index) -> Iterator[TestClient]:
    """Without keys: it only reads."""
    limits = Limits(max_text=1000, max_body=100_000)
    service = Service(unchanged.model, LocalBackend(unchanged.directory, model=unchanged.model), limits)
    with asking(create_app(service, page=False)) as client:
        yield client


@pytest.fixture
def own(serve: Make) -> Iterator[TestClient]:
    """Without keys, for one test alone."""
    with asking(create_app(serve(), page=False)) as client:
        yield client


@pytest.fixture
def writer(serve: Make, tmp_path: Path) -> Iterator[TestClient]:
    """With keys, one of which it gives."""
    keys = Keys.read(write(tmp_path / "keys.toml", GOOD))
    with asking(create_app(serve(), keys=keys, page=False), headers=AS_WRITER) as client:
        yield client


def test_a_search_is_that_of_the_index(client: TestClient, unchanged: Index) -> None:
    body = {"text": ONE, "k": 3, "where": {"topic": "money"}, "reconstruct": True, "score": True, "decode": True}
    response = client.post("/v1/search", json=body).raise_for_status().json()
    [hits] = unchanged.search([ONE], 3, where={"topic": "money"}, reconstruct=True, score=True)
    for found, hit in zip(response["hits"], hits, strict=True):
        expected = hit.as_dict()
        assert {name: found[name] for name in ("id", "text", "labels")} == {
            name: expected[name] for name in ("id", "text", "labels")
        }
        assert found["distance"] == pytest.approx(hit.distance, abs=1e-5)
        assert found["score"] == pytest.approx(hit.score, abs=1e-3) and found["reconstruction"] == hit.reconstruction
    assert len({hit.reconstruction for hit in hits}) > 1
    assert [response["decoded"]] == unchanged.model.reconstruct([ONE]) and response["missing"] == []


@pytest.mark.parametrize("body", [{"text": ONE, "k": 3}, {"text": ONE, "k": 0}, {"text": ""}, {"id": 1000}, {"x": 1}])
def test_searches_with_and_without_fastapi_have_the_same_answers(client: TestClient, body: dict[str, Any]) -> None:
    answers = []
    for kind in ("application/json", "application/json; charset=utf-8"):  # only the first takes the shortcut
        response = client.post("/v1/search", content=json.dumps(body), headers={"Content-Type": kind})
        headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
        answers.append((response.status_code, response.content, headers))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("label", ["money", None, 1.5, True, float("nan"), datetime.datetime(2020, 1, 2, 3, 4)])
def test_values_that_json_does_not_have_are_null_or_text(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, label: Any
) -> None:
    result = SearchResult([Hit(3, ONE, {"label": label, "other": 1}, 0.5, 0.25, ["sold"], score=float("-inf"))])

    async def search(*_: Any) -> list[SearchResult]:
        return [result]

    monkeypatch.setattr(Service, "search", search)
    found = client.post("/v1/search", json={"text": ONE}).raise_for_status().json()
    assert found == jsonable(result) and found["hits"][0]["score"] is None
    batch = client.post("/v1/search/batch", json={"queries": [{"text": ONE}]}).raise_for_status().json()
    assert batch == {"results": [found]}


@pytest.mark.parametrize(("query", "found"), [({"text": ONE}, 40), ({"id": 3}, 39)])
def test_more_than_there_are_finds_all(client: TestClient, query: dict[str, Any], found: int) -> None:
    hits = client.post("/v1/search", json={**query, "k": 41}).raise_for_status().json()["hits"]
    assert len({hit["id"] for hit in hits}) == found


@pytest.mark.parametrize(
    "query",
    [
        {"text": ONE},
        {"id": 0},
        {"code": [0.5] * 8},
        {"code": [1] * 8},
        {"line": {"first": ONE, "second": OTHER}},
        {"sum": {"plus": [ONE, OTHER], "minus": [ONE]}},
    ],
    ids=lambda query: next(iter(query)),
)
def test_each_kind_of_query_alone_and_in_a_batch(client: TestClient, query: dict[str, Any]) -> None:
    alone = client.post("/v1/search", json={**query, "k": 2, "settings": {"nprobe": 4}}).raise_for_status().json()
    body = {"queries": [query, {"id": 7}], "k": 2}
    batch = client.post("/v1/search/batch", json=body).raise_for_status().json()
    assert [hit["id"] for hit in alone["hits"]] == [hit["id"] for hit in batch["results"][0]["hits"]]
    assert len(alone["hits"]) == len(batch["results"][1]["hits"]) == 2


def test_the_models_operations(client: TestClient, model: SentenceModel) -> None:
    def post(path: str, **body: Any) -> Any:
        return client.post(f"/v1/{path}", json=body).raise_for_status().json()

    encoded = post("encode", texts=[ONE, OTHER])
    assert encoded["mean"][0] == pytest.approx(model.encode([ONE])[0].tolist(), abs=1e-5)
    assert len(encoded["log_variance"][1]) == 8
    codes = encoded["mean"]
    written = [
        ("decode", {"codes": codes}, model.decode(codes)),
        ("decode", {"codes": codes, "sample": True, "seed": 3}, model.decode(codes, sample=True, seed=3)),
        ("reconstruct", {"texts": [ONE, OTHER]}, model.reconstruct([ONE, OTHER])),
        ("interpolate", {"first": ONE, "second": OTHER, "steps": 3}, model.interpolate(ONE, OTHER, steps=3)),
        ("perturb", {"text": ONE, "num": 2, "seed": 1}, model.perturb(ONE, num=2, seed=1)),
        (
            "sample",
            {"num": 2, "standard_deviation": 1, "seed": 1},
            model.sample(2, standard_deviation=1, seed=1),
        ),
        ("sample", {"num": 2, "prior": True}, model.sample(2, prior=True)),
    ]
    for path, body, sentences in written:
        assert post(path, **body)["sentences"] == sentences and len(set(sentences)) > 1, path
    unknown = {"texts": [ONE], "sample": True, "allow_unknown": True}
    assert post("reconstruct", **unknown)["sentences"] == model.reconstruct([ONE], sample=True, allow_unknown=True)
    assert post("answer", question=ONE)["answer"] == model.answer(ONE) != ""
    assert post("answer", question="the law", num_words=3)["answer"] == model.answer("the law", num_words=3)
    assert model.answer("the law", num_words=3) != model.answer("the law")
    summed = post("arithmetic", plus=[ONE, ONE], minus=[OTHER])
    assert summed["code"] == pytest.approx(model.arithmetic([ONE, ONE], [OTHER]).tolist(), abs=1e-5)
    assert [summed["sentence"]] == model.decode([summed["code"]]) != model.reconstruct([ONE])


def test_what_the_model_cannot_do_has_a_code_of_its_own(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    model, corpus = smim.load(tiny_model, device="cpu"), Corpus.open(tiny_corpus)
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model)
    with asking(create_app(Service(model, LocalBackend(index.directory, model=model)), page=False)) as client:
        for path, body in (
            ("answer", {"question": ONE}),
            ("reconstruct", {"texts": [ONE], "literal": 0.5}),
            ("interpolate", {"first": ONE, "second": OTHER, "literal": 0}),
            ("perturb", {"text": ONE, "literal": 0}),
            ("sample", {"literal": 0}),
            ("search", {"text": ONE, "decode": True, "literal": 0}),
        ):
            response = client.post(f"/v1/{path}", json=body)
            assert response.status_code == 422 and response.json()["error"]["code"] == "unsupported", path
        assert client.post("/v1/sample", json={"literal": 1.5}).json()["error"]["code"] == "invalid"


def test_sentences_are_read_and_counted(client: TestClient, unchanged: Index) -> None:
    assert client.get("/v1/sentences/3").json() == vars(unchanged.get([3])[0])
    assert client.post("/v1/sentences/get", json={"ids": [5, 3]}).json() == {
        "sentences": [vars(row) for row in unchanged.get([5, 3])]
    }
    assert client.get("/v1/count").json() == client.post("/v1/count", json={}).json() == {"count": 40}
    money = client.post("/v1/count", json={"where": {"topic": "money"}}).json()["count"]
    assert money == unchanged.count({"topic": "money"})
    info = client.get("/v1/index").json()
    assert info["count"] == 40 and info["columns"] == ["topic"] and info["metric"] == "l2" and info["dimension"] == 8


def test_sentences_are_changed(writer: TestClient) -> None:
    added = writer.post("/v1/sentences", json={"texts": [ONE, OTHER], "labels": {"topic": ["money", None]}})
    assert added.json() == {"ids": [40, 41], "truncated": [], "skipped": []}
    assert writer.put("/v1/sentences", json={"texts": [OTHER], "ids": [40]}).json()["ids"] == [40]
    assert writer.get("/v1/sentences/40").json() == {"id": 40, "text": OTHER, "labels": {"topic": None}}
    assert writer.post("/v1/sentences", json={"texts": [ONE], "ids": [40]}).status_code == 422
    assert writer.post("/v1/sentences/delete", json={"ids": [40, 41]}).json() == {"count": 2}
    assert writer.get("/v1/sentences/40").status_code == 404
    assert writer.post("/v1/sentences/delete", json={"where": {"topic": "money"}}).json()["count"] > 0
    assert writer.post("/v1/count", json={"where": {"topic": "money"}}).json() == {"count": 0}


@pytest.mark.parametrize("where", [*LARGE.values()], ids=LARGE)
def test_a_filter_of_too_many_parts_is_refused_with_the_limit(own: TestClient, where: dict[str, Any]) -> None:
    for path, body in (
        ("/v1/search", {"text": ONE, "where": where}),
        ("/v1/count", {"where": where}),
    ):
        assert re.search(
            "at most 256 and 32|at most 20,000 parts|more than 32 levels", error(own, 422, "POST", path, json=body)
        )
    assert own.post("/v1/count", json={"where": {"$or": [{"topic": "money"}] * 9000}}).json()["count"] > 0


@pytest.fixture
def typed(model: SentenceModel, asking_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    """Of an index with labels of each kind, which everybody with its key may change."""
    labels = {"stars": [5, None, 3], "score": [0.5, None, 1.0], "open": [True, None, False], "city": ["a", None, ""]}
    index_texts(model, [ONE, OTHER, ONE], tmp_path / "typed", model_dir=asking_model, labels=labels)
    service = Service(model, LocalBackend(tmp_path / "typed", model=model))
    keys = Keys.read(write(tmp_path / "typed.toml", GOOD))
    with asking(create_app(service, keys=keys, page=False), headers=AS_WRITER) as client:
        yield client


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "column, value",
    [
        ("stars", "1.5"),
        ("stars", '"5"'),
        ("stars", "true"),
        ("stars", "1e300"),
        ("stars", "9223372036854775808"),
        ("score", "1152921504606846977"),
        ("score", "Infinity"),
        ("score", "-Infinity"),
        ("score", "1e999"),
        ("score", "false"),
        ("open", "1"),
        ("open", '"true"'),
        ("city", "5"),
        ("city", "true"),
        ("city", '"\\ud800"'),
    ],
)
def test_a_label_that_the_index_does_not_hold_as_it_is_is_refused_with_its_row(
    typed: TestClient, method: str, column: str, value: str
) -> None:
    ids = ', "ids": [0, 7]' if method == "PUT" else ""
    content = f'{{"texts": ["{ONE}", "{OTHER}"], "labels": {{"{column}": [null, {value}]}}{ids}}}'
    options = {"content": content, "headers": {"Content-Type": "application/json", **AS_WRITER}}
    assert f"sentence 2: the labels '{column}'" in error(typed, 422, method, "/v1/sentences", **options)
    assert typed.get("/v1/count").json() == {"count": 3}


def test_texts_that_do_not_fit_are_cut_or_left_out_and_told(writer: TestClient) -> None:
    long = "bank " * 25  # the model takes 20 words
    encoded = writer.post("/v1/encode", json={"texts": [ONE, long]}).json()
    assert encoded["truncated"] == [1] and encoded["mean"][1] == pytest.approx(
        writer.post("/v1/encode", json={"texts": ["bank " * 20]}).json()["mean"][0], abs=1e-5
    )
    holes = writer.post("/v1/encode", json={"texts": [None, ONE, "", long], "too_long": "skip", "empty": "skip"}).json()
    assert [mean is None for mean in holes["mean"]] == [True, False, True, True] and holes["truncated"] == []
    added = writer.post("/v1/sentences", json={"texts": [ONE, None, long], "empty": "skip"}).json()
    assert added == {"ids": [40, 41], "truncated": [2], "skipped": [1]}
    put = writer.put("/v1/sentences", json={"texts": ["", OTHER], "ids": [40, 41], "empty": "skip"}).json()
    assert put == {"ids": [41], "truncated": [], "skipped": [0]}
    refused = {"texts": [ONE, long], "too_long": "error"}
    assert "sentence 2: the text 'bank" in error(writer, 422, "POST", "/v1/encode", json=refused)
    assert "a text is needed, not None" in error(writer, 422, "POST", "/v1/sentences", json={"texts": [ONE, None]})
    assert "too_long" in error(writer, 422, "POST", "/v1/encode", json={"texts": [ONE], "too_long": "cut"})
    assert "a text is needed, not None" in error(writer, 422, "POST", "/v1/reconstruct", json={"texts": [ONE, None]})


def test_nan_and_null_are_no_value_and_are_counted_as_such(typed: TestClient) -> None:
    content = f'{{"texts": ["{ONE}", "{OTHER}"], "labels": {{"score": [NaN, null], "stars": [4.0, NaN]}}}}'
    added = typed.post("/v1/sentences", content=content, headers={"Content-Type": "application/json"}).json()
    assert added["ids"] == [3, 4]
    nothing = {"score": None, "stars": None, "open": None, "city": None}
    assert typed.get("/v1/sentences/3").json()["labels"] == {**nothing, "stars": 4}
    assert typed.get("/v1/sentences/4").json()["labels"] == nothing
    counts = [
        typed.post("/v1/count", json={"where": where}).json()["count"]
        for where in ({"score": None}, {"score": [None]}, {"score": {"$ne": None}}, {"score": {"$nin": [0.5]}})
    ]
    assert counts == [3, 3, 2, 1]


@pytest.mark.parametrize("id", [2**53, 2**60, 10**30, -1, 1.5, 1.0, True, "3"], ids=str)
def test_an_id_that_cannot_be_is_refused_wherever_it_enters(writer: TestClient, id: Any) -> None:
    for method, path, body in (
        ("POST", "/v1/search", {"id": id}),
        ("POST", "/v1/sentences/get", {"ids": [id]}),
        ("POST", "/v1/sentences/delete", {"ids": [id]}),
        ("POST", "/v1/sentences", {"texts": [ONE], "ids": [id]}),
        ("PUT", "/v1/sentences", {"texts": [ONE], "ids": [id]}),
    ):
        error(writer, 422, method, path, json=body)
    assert writer.get("/v1/count").json() == {"count": 40}


def test_the_largest_id_is_used_like_any_other_and_nothing_is_added_behind_it(writer: TestClient) -> None:
    largest = 2**53 - 1
    assert writer.post("/v1/sentences", json={"texts": [ONE], "ids": [largest]}).json()["ids"] == [largest]
    assert writer.get(f"/v1/sentences/{largest}").json()["text"] == ONE
    assert writer.post("/v1/search", json={"id": largest, "k": 1}).status_code == 200
    assert "an unused id" in error(writer, 422, "POST", "/v1/sentences", json={"texts": [ONE]})
    assert writer.post("/v1/sentences/delete", json={"ids": [largest]}).json() == {"count": 1}


def test_another_writer_is_a_conflict(writer: TestClient, index: Index) -> None:
    with IndexWriter(index.directory):
        response = writer.post("/v1/sentences", json={"texts": [ONE]})
    assert response.status_code == 409 and response.json()["error"]["type"] == "conflict"
    assert str(index.directory) not in response.text


def error(client: TestClient, status: int, method: str, path: str, **options: Any) -> str:
    """The message of an error, which has the one form that all have."""
    response = client.request(method, path, **options)
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"type", "code", "message"}
    return body["error"]["message"]


@pytest.mark.parametrize(
    "body, status, message",
    [
        ({"text": ONE, "k": 0}, 422, "body.k"),
        ({"text": ONE, "k": 2.0}, 422, "body.k"),
        ({"text": ONE, "k": "3"}, 422, "body.k"),
        ({"text": ONE, "k": True}, 422, "body.k"),
        ({"text": ONE, "k": None}, 422, "body.k"),
        ({"text": ONE, "k": 10**30}, 422, "at most 1000"),
        ({"text": ONE, "k": 1001}, 422, "at most 1000"),
        ({"text": ""}, 422, "body.text"),
        ({"text": "   "}, 422, "is empty"),
        ({"text": "a" * 1001}, 422, "1001 characters"),
        ({"text": "a " * 500}, 422, "500 tokens"),
        ({"text": ["a"]}, 422, "body.text"),
        ({"text": None}, 422, "body.text"),
        ({"text": "\ud800"}, 422, "body.text"),
        ({}, 422, "exactly one of"),
        ({"text": ONE, "id": 3}, 422, "exactly one of"),
        ({"text": ONE, "colour": 1}, 422, "body.colour"),
        ({"text": ONE, "a text of the user's": 1}, 422, "body.[.]{3}:"),
        ({"id": 40}, 404, "holds no sentence with id 40"),
        ({"id": 3, "k": 0}, 422, "body.k"),
        ({"id": 2**63}, 422, "body.id"),
        ({"id": -1}, 422, "body.id"),
        ({"code": [0.0] * 7}, 422, "codes have shape"),
        ({"code": []}, 422, "body.code"),
        ({"code": [1e7] * 8}, 422, "body.code"),
        ({"code": [True] * 8}, 422, "body.code"),
        ({"code": [0.0] * 8, "score": True}, 422, "queries must be sentences or ids"),
        ({"line": {"first": ONE}}, 422, "body.line.second"),
        ({"sum": {"plus": []}}, 422, "body.sum.plus"),
        ({"text": ONE, "where": {"colour": "red"}}, 422, "no column 'colour'"),
        ({"text": ONE, "where": {"topic": {"$near": 1}}}, 422, "unknown operator"),
        ({"text": ONE, "where": {"topic": 3}}, 422, "column 'topic' is string, but 3 is not"),
        ({"text": ONE, "where": {"topic": 10**30}}, 422, "64 bits"),
        ({"text": ONE, "where": {"topic": "\ud800"}}, 422, "surrogate"),
        ({"text": ONE, "where": [1]}, 422, "body.where"),
        ({"text": ONE, "settings": {"nprobes": 1}}, 422, "body.settings.nprobes"),
        ({"text": ONE, "settings": {"refine": 100}}, 422, "body.settings.refine"),
        ({"text": ONE, "max_distance": "far"}, 422, "body.max_distance"),
        ({"text": ONE, "mode": "words"}, 422, "body.mode"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else None,
)
def test_a_wrong_search_is_told_what_is_wrong(
    client: TestClient, body: dict[str, Any], status: int, message: str
) -> None:
    content = json.dumps(body).encode()
    said = error(client, status, "POST", "/v1/search", content=content, headers={"Content-Type": "application/json"})
    assert re.search(message, said)


@pytest.mark.parametrize(
    "content, status",
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 422),
        (b"null", 422),
        (b"\xff\xfe{}", 400),
        (b'{"text": "a", "k": ' + b"9" * 5000 + b"}", 400),
        (b'{"code": [NaN, 0, 0, 0, 0, 0, 0, 0]}', 422),
        (b'{"code": [1e999, 0, 0, 0, 0, 0, 0, 0]}', 422),
        (b'{"text": "the company", "max_distance": NaN}', 422),
        (b'{"text": "the company", "max_distance": -Infinity}', 422),
        (b'{"text": "the company", "where": {"topic": NaN}}', 422),
        (b'{"text": "the company", "where": ' + b'{"$not": ' * 50 + b"{}" + b"}" * 50 + b"}", 422),
        (b'{"text": "the company", "where": ' + b'{"$not": ' * 9_000 + b"{}" + b"}" * 9_000 + b"}", 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_proper_json_is_refused(client: TestClient, content: bytes, status: int) -> None:
    error(client, status, "POST", "/v1/search", content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("path", ["/v1/search", "/v1/count", "/nothing", "/docs"])
def test_what_is_nested_too_deep_is_refused_before_it_is_parsed(client: TestClient, path: str) -> None:
    for content in (b"[" * 401, b'{"text": "a", "where": ' + b'{"$and": [' * 201 + b"]}" * 201 + b"}"):
        assert "deep" in error(client, 400, "POST", path, content=content)


def test_what_is_wrong_is_not_echoed_at_length(client: TestClient) -> None:
    for where in ({"a" * 90_000: 1}, {"topic": {"$in": [["a" * 90_000]]}}, {"topic": {"$" + "a" * 90_000: 1}}):
        assert len(error(client, 422, "POST", "/v1/count", json={"where": where})) < 600


def test_a_body_that_does_not_say_it_is_json_is_refused(client: TestClient) -> None:
    error(client, 422, "POST", "/v1/search", content=b'{"text": "a"}', headers={"Content-Type": "text/plain"})


def test_a_refused_text_is_not_repeated(client: TestClient) -> None:
    secret = "a very private sentence"
    assert secret not in error(client, 422, "POST", "/v1/encode", json={"texts": [secret, 3]})
    assert secret not in error(client, 422, "POST", "/v1/encode", json={"texts": secret, secret: 1})
    assert secret not in error(client, 422, "POST", "/v1/search", json={"id": secret, "line": {secret: secret}})


def test_bodies_are_bounded_with_and_without_a_length(client: TestClient) -> None:
    text = "a" * 10_000_000
    assert "100000 bytes" in error(client, 413, "POST", "/v1/encode", json={"texts": [text]})

    def chunks() -> Iterator[bytes]:
        yield b'{"texts": ["'
        for _ in range(100):
            yield b"a" * 10_000
        yield b'"]}'

    assert "100000 bytes" in error(client, 413, "POST", "/v1/encode", content=chunks())


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not(unchanged: Index) -> None:
    service = Service(unchanged.model, LocalBackend(unchanged.directory, model=unchanged.model))
    head, headers = b'{"texts": ["' + ONE.encode() + b'"]}', {"Content-Type": "application/json"}
    with asking(create_app(service, page=False)) as client:
        for size, status in ((1_000_000, 200), (1_000_001, 413)):
            for content in (head.ljust(size), iter([head, b" " * (size - len(head))])):
                assert client.post("/v1/encode", content=content, headers=headers).status_code == status


def test_paths_and_methods_that_there_are_not(client: TestClient) -> None:
    error(client, 404, "GET", "/v1/nothing")
    error(client, 405, "GET", "/v1/search")
    error(client, 404, "GET", "/v1/sentences/40")
    error(client, 422, "GET", "/v1/sentences/x")
    error(client, 422, "GET", "/v1/sentences/-1")
    error(client, 422, "GET", f"/v1/sentences/{10**30}")


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("POST", "/v1/sentences", {"texts": [ONE]}),
        ("PUT", "/v1/sentences", {"texts": [ONE], "ids": [1]}),
        ("POST", "/v1/sentences/delete", {"ids": [1]}),
    ],
)
def test_changes_need_a_key_with_the_right(
    client: TestClient, writer: TestClient, method: str, path: str, body: dict[str, Any]
) -> None:
    assert "--keys" in error(client, 403, method, path, json=body)
    assert "right to write" in error(
        writer, 403, method, path, json=body, headers={"Authorization": f"Bearer {READER}"}
    )
    assert "Bearer" in error(writer, 401, method, path, json=body, headers={"Authorization": "Bearer wrong"})
    assert writer.get("/v1/count").json() == {"count": 40}


def test_with_keys_reading_needs_one_and_health_none(writer: TestClient) -> None:
    for path in ("/v1/count", "/v1/index", "/v1/sentences/1", "/metrics"):
        assert writer.get(path, headers={"Authorization": f"Bearer {READER}"}).status_code == 200
        response = writer.get(path, headers={"Authorization": ""})
        assert response.status_code == 401 and response.headers["WWW-Authenticate"] == "Bearer"
        assert writer.get(path, headers={"Authorization": f"Basic {READER}"}).status_code == 401
    for path in ("/health/live", "/health/ready"):
        assert writer.get(path, headers={"Authorization": ""}).status_code == 200


def test_other_origins_may_ask_only_where_they_are_named(client: TestClient, serve: Make) -> None:
    def allowed(client: TestClient) -> str | None:
        headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        asked = client.options("/v1/search", headers=headers).headers.get("Access-Control-Allow-Origin")
        answered = client.get("/v1/count", headers={"Origin": "https://a.example"}).headers
        assert answered.get("Access-Control-Allow-Origin") == asked
        return asked

    assert allowed(client) is None
    with asking(create_app(serve(), page=False, access=Access(origins=["https://a.example"]))) as other:
        assert allowed(other) == "https://a.example"
    with asking(create_app(serve(), page=False, access=Access(origins=["https://b.example"]))) as other:
        assert allowed(other) is None


def test_metrics_tell_requests_batches_queues_and_the_index(own: TestClient) -> None:
    own.post("/v1/search", json={"text": ONE})
    own.post("/v1/search", json={"text": ""})
    own.get("/v1/sentences/3")
    own.get("/v1/sentences/4")
    own.get("/some/where/else")
    own.request("BREW", "/v1/search")
    lines = own.get("/metrics").text.splitlines()
    for line in (
        'smim_requests_total{method="POST",route="/v1/search",status="200"} 1.0',
        'smim_requests_total{method="POST",route="/v1/search",status="422"} 1.0',
        'smim_requests_total{method="GET",route="/v1/sentences/{id}",status="200"} 2.0',
        'smim_requests_total{method="GET",route="other",status="404"} 1.0',
        'smim_request_seconds_count{route="/v1/search"} 3.0',
        'smim_batch_items_count{queue="encode"} 1.0',
        'smim_queue_items{queue="decode"} 0.0',
        "smim_index_sentences 40.0",
        "smim_index_version 1.0",
    ):
        assert line in lines
    assert any('method="other"' in line for line in lines)


def test_a_service_that_closed_is_alive_but_not_ready(serve: Make) -> None:
    app = create_app(serve(), page=False)
    with asking(app) as client:
        assert client.get("/health/ready").status_code == 200
    client = asking(app)
    assert client.get("/health/live").status_code == 200
    error(client, 503, "GET", "/health/ready")
    error(client, 503, "POST", "/v1/search", json={"text": ONE})


def test_an_index_that_is_gone_is_not_ready(own: TestClient, index: Index) -> None:
    shutil.rmtree(index.directory)
    message = error(own, 503, "GET", "/health/ready")
    assert str(index.directory) not in message


def test_an_index_of_another_model_is_not_served(
    own: TestClient, index: Index, corpus: Corpus, asking_model: Path, tmp_path: Path
) -> None:
    other = smim.load(other_model(tmp_path / "other", asking_model), device="cpu")
    build_index(other, corpus, index.directory, model_dir=tmp_path / "other")
    for _ in range(2):
        error(own, 503, "GET", "/health/ready")
        assert "cannot be read" in error(own, 503, "POST", "/v1/search", json={"text": ONE})


def test_a_busy_service_says_when_to_come_again(serve: Make) -> None:
    service = serve(max_batch=4, max_num=4, queue_size=4)
    body = {"num": 4, "standard_deviation": 1.0}
    with asking(create_app(service, page=False)) as client, ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(lambda _: client.post("/v1/sample", json=body), range(20)))
    refused = [response for response in responses if response.status_code == 429]
    assert refused and {response.status_code for response in responses} == {200, 429}
    for response in refused:
        assert response.json()["error"]["type"] == "busy" and int(response.headers["Retry-After"]) >= 1


def test_a_fault_is_told_without_its_cause_and_logged(
    serve: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve()
    monkeypatch.setattr(service.model, "tokenizer", None)  # a model that broke
    with asking(create_app(service, page=False)) as client, caplog.at_level(logging.INFO, "smim.serve"):
        message = error(client, 500, "POST", "/v1/encode", json={"texts": [ONE]})
        assert client.get("/v1/count").status_code == 200
    [fault] = [record.known for record in caplog.records if record.known["status"] == 500]
    assert fault["fault"] == "AttributeError" and fault["request"] in message and "NoneType" not in message
    assert any("computing.py" in frame for frame in fault["at"])


def test_the_log_tells_the_route_and_never_a_text(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    secret = "zanzibar"
    with caplog.at_level(logging.DEBUG):
        client.post("/v1/search", json={"text": f"the company {secret}", "where": {"topic": secret}})
        client.post("/v1/search", json={"text": secret})  # no word of it is known
        client.post("/v1/search", json={"text": 3, secret: secret})
        client.get(f"/v1/sentences/{secret}?{secret}={secret}")
        client.get(f"/{secret}")
        client.request(secret.upper(), "/v1/count")
    ours = [record.known for record in caplog.records if record.name == "smim.serve"]
    assert [(known["route"], known["status"]) for known in ours] == [
        ("/v1/search", 200), ("/v1/search", 422), ("/v1/search", 422), ("/v1/sentences/{id}", 422), ("other", 404),
        ("/v1/count", 405)
    ]  # fmt: skip
    assert all(known["milliseconds"] >= 0 and len(known["request"]) == 16 for known in ours)
    kept = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert secret not in repr([record.__dict__ for record in kept]).lower()


def test_our_log_alone_can_be_json_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("smim.serve")
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(ours, name, getattr(ours, name))  # as it was, afterwards
    theirs = logging.getLogger().handlers
    log_to_stderr(others=False)
    logging.getLogger("smim.serve.cluster").warning("shard-1 is gone")
    ours.error("request", extra={"known": {"request": "an id"}})
    assert logging.getLogger().handlers == theirs
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["shard-1 is gone", "request"] and lines[1]["request"] == "an id"


def test_openapi_tells_the_limits_of_this_service(serve: Make) -> None:
    limits = Limits(max_text=77, max_batch=9, max_num=8, max_k=66)
    schemas = create_app(serve(**vars(limits)), page=False).openapi()["components"]["schemas"]
    texts = schemas["EncodeBody"]["properties"]["texts"]
    assert (texts["minItems"], texts["maxItems"], texts["items"]["anyOf"][0]["maxLength"]) == (1, 9, 77)
    assert schemas["SearchBody"]["properties"]["k"]["maximum"] == 66
    assert schemas["PerturbBody"]["properties"]["num"]["maximum"] == 8
    assert "x-limit" not in json.dumps(schemas)
