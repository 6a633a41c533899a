"""Shards and what asks them: their answers together are those of one process, whatever changes or fails meanwhile."""

import asyncio
import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import psutil
import pyarrow as pa
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, index_texts, open_index
from smim.search import factory as factories
from smim.search.errors import NoSuchSentence
from smim.search.query import Options, Query
from smim.search.searching import Answer
from smim.search.segment import write_segment
from smim.serve.app import create_app
from smim.serve.batching import Unavailable
from smim.serve.cluster import Ask, ClusterBackend
from smim.serve.on_ray import serve_cluster
from smim.serve.service import Service
from smim.serve.shard import SegmentsGone, Shard
from smim.text.corpus import Corpus
from tests.search.test_filters import LARGE

_PARTS = ["a bank sold shares", "her brother lost a small house", "the company", "the old minister", "the new law"]

KEY = "a key for the tests only"
TOPICS = ["home", "money", "politics"]


def ask_of(shard: Shard) -> Ask:
    """As Ray asks a shard: in another thread."""

    async def ask(method: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(shard, method), *arguments)

    return ask


def cluster(index: Index, *, shards: int = 3, timeout: float = 5.0) -> ClusterBackend:
    asks = [ask_of(Shard(index.directory)) for _ in range(shards)]
    return ClusterBackend(index.directory, asks, model=index.model, timeout=timeout)


def rows(answer: Answer) -> list[list[dict[str, Any]]]:
    return [[hit.as_dict() for hit in hits] for hits in answer.hits]


def expected(index: Index, *arguments: Any, **options: Any) -> list[list[dict[str, Any]]]:
    return [[hit.as_dict() for hit in hits] for hits in index.search(*arguments, **options)]


@pytest.fixture
def flat(index: Index) -> Index:
    """Four exact segments of 46 sentences, of which three are deleted, with labels or without."""
    with IndexWriter(index.directory, model=index.model) as writer:
        texts = [row.text for row in index.get([3, 17])]
        writer.add(texts, labels={"topic": ["home", "money"]})
        writer.add(["the company bought shares", "a bank sold shares"], labels={"topic": ["money", None]})
        writer.add(["her brother lost the new law", "the old minister sold shares"])
        writer.delete([5, 40, 42])
    return index


@pytest.fixture(scope="module")
def approximate(model: SentenceModel, asking_model: Path, corpus: Corpus, tmp_path_factory) -> Index:
    """Three segments of 2,000 codes each, one quantizer, the last rows being copies of the first; fp16 codes beside."""
    directory = tmp_path_factory.mktemp("indexes") / "ivf"
    index = build_index(model, corpus, directory, model_dir=asking_model)
    codes = np.random.default_rng(1).standard_normal((6000, 8)).astype(np.float32)
    codes[-500:] = codes[:500]
    trained = factories.make_vectors("IVF16,PQ4x4", "l2", 8)
    trained.train(codes)
    infos = []
    for number, start in enumerate(range(0, 6000, 2000), start=2):
        ids = np.arange(start, start + 2000)
        table = pa.table({"text": [f"sentence {i}" for i in ids], "topic": [TOPICS[i % 3] for i in ids]})
        folder = directory / f"{number:08d}"
        folder.mkdir()
        chunks = [(ids, codes[start : start + 2000], table)]
        info = write_segment(
            folder,
            name=folder.name,
            factory="IVF16,PQ4x4",
            vectors=faiss.clone_index(trained),
            vector_of=np.arange(2000),
            chunks=iter(chunks),
            store="fp16",
        )
        infos.append(info)
    settings = {"nprobe": 8, "refine": 4}
    index.manifest.changed(segments=infos, next_id=6000, store="fp16", search=settings).write(directory)
    with IndexWriter(directory, model=model) as writer:
        writer.delete([7, 2007, 5600])
    return open_index(directory, model=model)


@pytest.mark.parametrize("where", [None, {"topic": "money"}, {"topic": {"$in": ["home", "politics"]}}, {"topic": "x"}])
@pytest.mark.parametrize("shards", [1, 3, 9])
def test_shards_answer_together_as_exact_search_in_one_process(flat, where, shards):
    codes = flat.model.encode(["the company sold shares", "her brother lost the new law"])
    for k in (1, 4, 43, 44):
        found = asyncio.run(cluster(flat, shards=shards).search(codes, Options(k, where=where)))
        assert rows(found) == expected(flat, codes, k, where=where)
        assert found.missing == []


@pytest.mark.parametrize("mode", ["sparse", "hybrid"])
@pytest.mark.parametrize("where", [None, {"topic": "money"}])
def test_shards_count_words_together_as_one_process_does(flat, mode, where):
    texts = ["the company sold shares", "her brother's new law", "a bank"]
    codes = flat.model.encode(texts)
    for shards, k in ((1, 4), (3, 4), (3, 44), (9, 44)):
        options = Options(k, where=where, mode=mode)
        found = asyncio.run(cluster(flat, shards=shards).search(codes, options, texts))
        assert rows(found) == [[hit.as_dict() for hit in hits] for hits in flat.nearest(codes, options, texts)]
        assert all(found.hits) and found.missing == []


@pytest.mark.parametrize("fold", ["text", "words"])
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_shards_fold_together_as_one_process_does(flat, mode, fold):
    with IndexWriter(flat.directory, model=flat.model) as writer:
        writer.add(["a bank sold shares"] * 30 + ["A bank sold shares."] * 30)
    query, service = Query(text="a bank sold shares"), Service(flat.model, cluster(flat, shards=3))
    for k in (1, 3, 100):
        options = Options(k, mode=mode, fold=fold)
        [result] = asyncio.run(service.search([query], options))
        [alone] = flat.results([query], options)
        assert [hit.as_dict() for hit in result.hits] == [hit.as_dict() for hit in alone.hits]
        assert result.hits[0].count > 30


@pytest.mark.parametrize("fold", [None, "text", "none"])
@pytest.mark.parametrize("mode", [None, "dense", "sparse"])
def test_shards_answer_by_texts_of_several_sentences_as_one_process_does(model, tmp_path, mode, fold):
    texts = [f"{first}\n\na bank\n\n{second}" for first in _PARTS for second in _PARTS]
    with IndexWriter(index_texts(model, texts, tmp_path / "i", split="sentences").directory, model=model) as writer:
        writer.add(["a bank sold shares\n\na bank", *texts[:9]])
        writer.add(texts[5:12])
        writer.delete([3, 30])
    split = open_index(tmp_path / "i", model=model)
    service = Service(model, cluster(split, shards=2))
    for query in (Query(text="a bank sold shares"), Query(id=4)):
        for k in (1, 5, 100):
            options = Options(k, mode=mode, fold=fold)
            [result] = asyncio.run(service.search([query], options))
            [alone] = split.results([query], options)
            assert [hit.as_dict() for hit in result.hits] == [hit.as_dict() for hit in alone.hits]
    assert [row.text for row in asyncio.run(service.backend.get([4]))] == [split.get([4])[0].text]


def test_words_are_counted_anew_where_the_index_changes_between_counting_and_searching(flat):
    texts, codes = ["a bank sold shares"], flat.model.encode(["a bank sold shares"])
    backend = cluster(flat)
    ask_all = backend._ask_all
    changes = iter([["a bank bought a bank", "the bank sold a bank"], ["a bank lost shares"]])

    async def changing(method, arguments):
        if method == "search" and (more := next(changes, None)):
            with IndexWriter(flat.directory, model=flat.model) as writer:
                writer.add(more)
        return await ask_all(method, arguments)

    backend._ask_all = changing
    options = Options(10, mode="hybrid")
    found = asyncio.run(backend.search(codes, options, texts))
    assert next(changes, None) is None
    assert rows(found) == [[hit.as_dict() for hit in hits] for hits in flat.nearest(codes, options, texts)]


@pytest.mark.parametrize("where", [None, {"topic": "money"}])
@pytest.mark.parametrize("settings", [{}, {"refine": 0, "nprobe": 2}])
def test_shards_answer_together_as_approximate_search_in_one_process(approximate, where, settings):
    codes = np.random.default_rng(1).standard_normal((6000, 8)).astype(np.float32)[::200]
    backend = cluster(approximate, shards=2)
    for k in (1, 10, 100):
        found = asyncio.run(backend.search(codes, Options(k, where=where, settings=settings)))
        assert rows(found) == expected(approximate, codes, k, where=where, **settings)


def test_an_index_of_which_everything_was_deleted_has_no_hits(flat):
    with IndexWriter(flat.directory, model=flat.model) as writer:
        writer.delete(range(50))
    found = asyncio.run(cluster(flat).search(flat.model.encode(["a bank sold shares"]), Options(5)))
    assert (found.hits, found.missing) == ([[]], [])


def test_the_end_of_a_longer_answer_is_the_answer_at_an_offset(flat):
    codes = flat.model.encode(["a bank wrote about a small house"])
    found = asyncio.run(cluster(flat).search(codes, Options(12)))
    assert rows(found)[0][7:] == expected(flat, codes, 5, offset=7)[0]


def test_sentences_of_equal_distance_come_in_order_of_their_ids_whichever_shard_has_them(approximate):
    [hits] = asyncio.run(cluster(approximate, shards=3).search(approximate.codes([5510]), Options(2))).hits
    assert [hit.id for hit in hits] == [10, 5510]  # in two segments of two shards
    assert hits[0].distance == hits[1].distance


def test_shards_get_count_and_give_codes_as_one_process(flat, approximate):
    for index, ids in ((flat, [44, 0, 17, 0]), (approximate, [5999, 0, 2001])):
        backend = cluster(index)
        assert [hit.as_dict() for hit in asyncio.run(backend.get(ids))] == [
            {**vars(row), "distance": 0.0, "similarity": 1.0} for row in index.get(ids)
        ]
        np.testing.assert_array_equal(asyncio.run(backend.codes(ids)), index.codes(ids))
        for where in (None, {}, {"topic": "money"}):
            assert asyncio.run(backend.count(where)) == index.count(where)
        assert asyncio.run(backend.describe()).count == len(index)


@pytest.mark.parametrize("where", LARGE.values(), ids=LARGE)
def test_shards_refuse_a_filter_of_too_many_parts_and_go_on(flat, where):
    backend, codes = cluster(flat, timeout=60), flat.codes([3])
    for asked in (backend.count(where), backend.search(codes, Options(3, where=where)), backend.delete(None, where)):
        with pytest.raises(UserError, match="at most"):
            asyncio.run(asked)
    many = {"$or": [{"topic": "money"}] * 9000}
    assert asyncio.run(backend.count(many)) == flat.count({"topic": "money"})


def test_shards_find_no_value_and_refuse_what_the_index_does_not_hold(flat):
    backend = cluster(flat)
    assert asyncio.run(backend.count({"topic": [None]})) == flat.count({"topic": None}) == 3
    for labels in ({"topic": ["a", 1.5]}, {"topic": ["a", float("inf")]}):
        with pytest.raises(UserError, match="sentence 2: the labels 'topic'"):
            asyncio.run(backend.add(["a bank", "a bank lost"], None, labels, replace=False))
    with pytest.raises(UserError, match="ids must be a list of whole numbers"):
        asyncio.run(backend.get([2**53]))
    [id] = asyncio.run(backend.add(["a bank"], None, {"topic": [float("nan")]}, replace=False)).ids
    assert asyncio.run(backend.get([id]))[0].labels == {"topic": None}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda backend, codes: backend.search(codes, Options(0)), "k must be at least 1"),
        (lambda backend, codes: backend.search(codes, Options(1, where={"topc": 1})), "did you mean 'topic'"),
        (lambda backend, codes: backend.search(codes, Options(1, settings={"probe": 3})), "no search setting 'probe'"),
        (lambda backend, codes: backend.search(codes[:, :5], Options(1)), r"this index's are \[N, 8\]"),
        (lambda backend, _: backend.get([0, 5, 99]), "holds no sentence with id 5, 99"),
        (lambda backend, _: backend.codes([-1]), "whole numbers from 0 to"),
        (lambda backend, _: backend.add(["the company"], [0], {}, replace=False), "id 0 already"),
    ],
)
def test_a_callers_mistake_is_told_as_by_one_process_and_no_shard_is_blamed(flat, wrong, message):
    backend = cluster(flat)
    with pytest.raises(UserError, match=message) as told:
        asyncio.run(wrong(backend, flat.model.encode(["a bank sold shares"])))
    assert isinstance(told.value, NoSuchSentence) == ("no sentence with id" in message)
    assert not backend._silent


def test_a_change_is_seen_by_all_shards_at_the_next_request(flat):
    async def scenario() -> None:
        writing, reading = cluster(flat), cluster(flat)
        codes = flat.model.encode(["the company bought shares"])
        await reading.search(codes, Options(5))
        assert (await writing.add(["a bank lost shares"], None, {"topic": ["money"]}, replace=False)).ids == [46]
        assert await writing.delete([43, 1], None) == 2
        for backend in (writing, reading):
            found = await backend.search(codes, Options(42))
            assert rows(found) == expected(flat, codes, 42)
            assert 46 in [hit.id for hit in found.hits[0]]
            assert not {43, 1} & {hit.id for hit in found.hits[0]}
        assert await writing.delete(None, {"topic": "home"}) > 0
        assert await reading.count(None) == len(flat) == await reading.count({"topic": {"$ne": "home"}}) + 2
        await writing.close()

    asyncio.run(scenario())


def test_changes_through_several_fronts_wait_for_one_another(flat):
    async def scenario() -> None:
        frontends = [cluster(flat) for _ in range(4)]
        added = await asyncio.gather(
            *(front.add(["a bank sold shares"], None, {}, replace=False) for front in frontends)
        )
        assert sorted(put.ids for put in added) == [[46], [47], [48], [49]]

    asyncio.run(scenario())
    assert len(flat) == 47


def test_an_answer_is_of_one_version_though_the_index_changes_while_the_shards_search(flat):
    """The change comes when one shard has answered and the other has not opened its segments yet."""

    async def scenario() -> None:
        first, second = Shard(flat.directory), Shard(flat.directory)
        changed = asyncio.Event()

        async def late(method: str, *arguments: Any) -> Any:
            await changed.wait()
            return await ask_of(second)(method, *arguments)

        async def quick(method: str, *arguments: Any) -> Any:
            result = await ask_of(first)(method, *arguments)
            if not changed.is_set():
                with IndexWriter(flat.directory, model=flat.model) as writer:
                    writer.delete([2, 41])
                    writer.compact()  # what the late shard is asked for is no longer on disk
                changed.set()
            return result

        backend = ClusterBackend(flat.directory, [quick, late], model=flat.model)
        codes = flat.model.encode(["the company sold shares"])
        found = await backend.search(codes, Options(41))
        assert rows(found) == expected(flat, codes, 41)
        assert found.missing == []

    asyncio.run(scenario())


def test_a_shard_drops_segments_that_newer_versions_no_longer_name(flat):
    shard = Shard(flat.directory)
    old = flat.manifest
    shard.count(old, {"topic": "money"})
    with IndexWriter(flat.directory, model=flat.model) as writer:
        writer.compact()
        compacted = writer.manifest
        assert shard.count(old, {"topic": "money"}) == 15
        shard.count(compacted, {"topic": "money"})
        writer.delete([0])
        shard.count(writer.manifest, {"topic": "money"})
    with pytest.raises(SegmentsGone, match="missing"):
        shard.count(old, {"topic": "money"})


async def fails(*_: Any) -> Any:
    raise ConnectionError("the machine is gone")


async def hangs(*_: Any) -> Any:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("broken", [fails, hangs])
def test_a_shard_that_is_gone_is_named_and_the_others_answer_in_time(flat, broken):
    async def scenario() -> None:
        backend = cluster(flat, shards=2, timeout=2)
        asked = []

        async def gone(method: str, *arguments: Any) -> Any:
            asked.append(method)
            return await broken(method, *arguments)

        whole, backend.shards = list(backend.shards), [backend.shards[0], gone]
        codes = flat.model.encode(["the company sold shares"])
        async with asyncio.timeout(10):
            found = await backend.search(codes, Options(43))
        assert found.missing == ["shard-1"] and asked[:2] == ["search", "search"]
        of_shard_0 = [info.name for info in flat.manifest.segments if int(info.name) % 2 == 0]
        numbers = {id for s in flat.snapshot.segments if s.info.name in of_shard_0 for id in s.ids[s.live_positions()]}
        assert rows(found) == [[row for row in expected(flat, codes, 43)[0] if row["id"] in numbers]]
        # What has no answer in part is refused, not answered wrongly; and nobody waits again.
        with pytest.raises(Unavailable, match="shard-1"):
            await backend.count({"topic": "money"})
        with pytest.raises(Unavailable, match="shard-1"):
            await backend.get([0, 41])
        assert set(asked[2:]) <= {"ping"}
        backend.shards = whole
        async with asyncio.timeout(10):
            while (again := await backend.search(codes, Options(43))).missing:
                await asyncio.sleep(0.05)
        assert rows(again) == expected(flat, codes, 43)
        await backend.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("broken", [fails, hangs])
def test_without_any_shard_a_search_is_refused_not_answered_with_nothing(flat, broken):
    backend = ClusterBackend(flat.directory, [broken, broken], model=flat.model, timeout=0.3)
    with TestClient(create_app(Service(flat.model, backend), page=False), base_url="http://localhost") as client:
        response = client.post("/v1/search", json={"text": "the company sold shares", "k": 3})
    assert response.status_code == 503
    assert "does not answer now (shard-0, shard-1)" in response.json()["error"]["message"]


@pytest.mark.parametrize("broken", [fails, hangs])
def test_a_failure_of_one_replica_leaves_the_answer_whole(flat, broken):
    async def scenario() -> None:
        backend = cluster(flat, shards=2, timeout=4)
        codes = flat.model.encode(["the company sold shares"])
        good, calls = backend.shards[1], []

        async def one_bad_replica(*arguments: Any) -> Any:
            calls.append(arguments)
            return await (broken if len(calls) == 1 else good)(*arguments)

        backend.shards = [backend.shards[0], one_bad_replica]
        found = await backend.search(codes, Options(43))
        assert found.missing == []
        assert rows(found) == expected(flat, codes, 43)
        assert len(calls) == 2

    asyncio.run(scenario())


def test_a_shard_whose_copy_is_damaged_is_named(flat):
    async def scenario() -> None:
        backend = cluster(flat, shards=2)
        info = next(info for info in flat.manifest.segments if int(info.name) % 2 == 0)
        (flat.directory / info.name / "ids.npy").unlink()
        codes = flat.model.encode(["the company sold shares"])
        assert (await backend.search(codes, Options(5))).missing == ["shard-0"]
        assert not backend._silent  # the next request asks it again: its files may have come

    asyncio.run(scenario())


def test_without_ray_a_cluster_names_what_to_install(flat, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'smim\[ray,serve\]'"):
        serve_cluster(flat.directory)


def test_what_cannot_be_served_from_a_cluster_is_told_before_ray_starts(flat, monkeypatch):
    if importlib.util.find_spec("ray") is None:
        # It is imported before these checks, and started after them.
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=None))
    with pytest.raises(UserError, match="3 shards, 0 replicas"):
        serve_cluster(flat.directory, shards=3, replicas=0)
    with pytest.raises(UserError, match="give it with --port"):
        serve_cluster(flat.directory, port=0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot listen"):
            serve_cluster(flat.directory, port=taken.getsockname()[1])
    with pytest.raises(UserError, match="is not an index"):
        serve_cluster(flat.directory / "elsewhere", port=65432)
    with pytest.raises(UserError, match="need --shards"):
        CliRunner().invoke(app, ["serve", "--index", str(flat.directory), "--replicas=2"], catch_exceptions=False)


@dataclass
class Running:
    """A service on a Ray of its own, in another process."""

    process: subprocess.Popen[str]
    port: int

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def search(self, code: np.ndarray, k: int) -> tuple[list[dict[str, Any]], list[str]]:
        answer = self.post("search", code=code.tolist(), k=k)
        known = [{field: value for field, value in hit.items() if value is not None} for hit in answer["hits"]]
        return known, answer["missing"]

    def whole(self, code: np.ndarray, k: int) -> list[dict[str, Any]]:
        """The first answer that lacks nothing."""
        begun = time.monotonic()
        while time.monotonic() - begun < 60:
            hits, missing = self.search(code, k)
            if not missing:
                return hits
            time.sleep(0.1)
        raise TimeoutError

    def replicas(self, name: str) -> list[psutil.Process]:
        """The processes of a deployment."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if f"ServeReplica:smim:{name}" in "".join(child.cmdline())]


@pytest.fixture
def service(flat, tmp_path, request) -> Iterator[Running]:
    """Two shards; further options come from the test's parameters."""
    pytest.importorskip("ray.serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "all"\nkey = "{KEY}"\nrights = ["read", "write"]\n')
    keys.chmod(0o600)
    command = [sys.executable, "-c", "from smim.cli import main; main()", "serve", "--index", str(flat.directory)]
    options = [
        "--shards=2",
        "--timeout=1",
        f"--port={port}",
        f"--keys={keys}",
        *getattr(request, "param", []),
    ]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert f"serving on http://127.0.0.1:{port}" in process.stdout.readline()
        yield Running(process, port)
    finally:
        left = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(timeout=60) == 0
        _, alive = psutil.wait_procs(left, timeout=10)
        assert not alive


def test_a_service_on_ray_answers_as_one_process_also_when_a_shard_died_and_came_back(service, flat):
    codes = flat.model.encode(["the company sold shares", "her brother lost the new law"])
    for code in codes:
        assert service.whole(code, 43) == expected(flat, code[None], 43)[0]
    [replica] = service.replicas("shard-1")
    replica.kill()
    begun = time.monotonic()
    hits, missing = service.search(codes[0], 43)
    assert missing == ["shard-1"]
    assert time.monotonic() - begun < 3
    assert 0 < len(hits) < 43
    assert all(hit in expected(flat, codes[:1], 43)[0] for hit in hits)
    for code in codes:
        assert service.whole(code, 43) == expected(flat, code[None], 43)[0]


@pytest.mark.slow
@pytest.mark.parametrize("service", [["--replicas=2", "--frontends=2", "--timeout=10"]], indirect=True)
def test_with_two_replicas_no_answer_is_partial_and_every_front_sees_a_change_at_once(service, flat):
    code = flat.model.encode(["the company sold shares"])
    for _ in range(4):  # each front has the page
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/") as page:
            assert b"page.js" in page.read()
    service.replicas("shard-0")[0].kill()
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        assert service.search(code[0], 43) == (expected(flat, code, 43)[0], [])
    for number in range(5):
        [id] = service.post("sentences", texts=["a bank sold shares"])["ids"]
        for _ in range(6):
            hits, missing = service.search(code[0], 44 + number)
            assert id in [hit["id"] for hit in hits]
            assert missing == []
