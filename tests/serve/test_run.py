"""A real `smim serve` process on loopback, asked by the client."""

import asyncio
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from fastapi import FastAPI

from smim.search import Index
from smim.search.errors import BadFilter, NoSuchSentence
from smim.serve import Client, ServiceError, run
from smim.serve.app import create_app
from smim.serve.keys import Keys
from smim.serve.limits import Limits
from smim.serve.run import allow_open_files, listen, read_ahead
from smim.serve.service import Service
from smim.text.fitting import TextsChanged
from tests.serve.processes import Served, served
from tests.serve.test_keys import GOOD, READER, WRITER, write

ONE, OTHER = "the company sold shares", "her brother lost a small house"


def refused(index: Index, output: Path, *options: str) -> str:
    """What a service that does not start says, in one line."""
    service = Served(index, *options, output=output)
    assert service.status() == 2
    [line] = service.stderr.read_text().splitlines()
    return line


def metric(client: Client, name: str) -> float:
    """What /metrics says of it, 0 where it says nothing."""
    lines = client._http.get("/metrics").raise_for_status().text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def test_a_service_from_start_to_end(index: Index, tmp_path: Path) -> None:
    """Started once, since starting takes seconds: it searches, changes, refuses, ends, and its log has no texts."""
    keys = write(tmp_path / "keys.toml", GOOD)
    with served(index, tmp_path, "--keys", str(keys)) as (service, address), Client(address, key=WRITER) as client:
        assert client.ready()
        [hits] = index.search([ONE], 3)
        assert [hit.id for hit in client.search(text=ONE, k=3).hits] == [hit.id for hit in hits]
        batch = client.search_batch([{"id": 3}, {"line": {"first": ONE, "second": ONE}}], k=2, decode=True)
        assert [hit.id for hit in batch[0].hits] == [hit.id for hit in index.more_like([3], 2)[0]]
        decoded = index.model.reconstruct([index.get([3])[0].text, ONE])
        assert [each.decoded for each in batch] == decoded and decoded[0] != decoded[1]
        codes = client.encode([ONE, OTHER]).mean
        written = [
            (client.decode(codes), index.model.reconstruct([ONE, OTHER])),
            (client.reconstruct([ONE, OTHER]), index.model.reconstruct([ONE, OTHER])),
            (client.interpolate(ONE, OTHER, steps=3), index.model.interpolate(ONE, OTHER, steps=3)),
            (client.perturb(ONE, num=2), index.model.perturb(ONE, num=2)),
            (client.sample(2, seed=1), index.model.sample(2, seed=1)),
        ]
        for sentences, expected in written:
            assert sentences == expected and len(set(expected)) > 1
        assert [client.arithmetic([ONE, OTHER], [ONE]).sentence] == index.model.reconstruct([OTHER])
        assert client.answer(ONE) == index.model.answer(ONE) != ""
        assert client.add([ONE], labels={"topic": ["money"]}) == [40]
        assert client.upsert([ONE], [40]) == [40]
        with pytest.warns(TextsChanged, match="1 of 2 texts were cut: sentence 2"):
            assert client.encode([ONE, "bank " * 30]).truncated == [1]
        with pytest.warns(TextsChanged, match="1 of 2 texts were left out: sentence 1"):
            assert client.upsert(["", ONE], [41, 40], empty="skip") == [40]
        assert client.get([40])[0].labels == {"topic": None}
        assert client.index().count == client.count() == 41 and client.count({"topic": None}) == 1
        assert client.delete([40]) == 1
        with pytest.raises(ServiceError, match="404: the index holds no sentence with id 40") as error:
            client.get([40])
        assert isinstance(error.value, NoSuchSentence) and error.value.code == "not_found"
        with pytest.raises(BadFilter, match="422: there is no column 'colour'"):
            client.count({"colour": 1})
        with Client(address, key=READER) as reader, pytest.raises(ServiceError) as error:
            reader.delete([1])
        assert (error.value.status, error.value.code) == (403, "forbidden")
        port = address.rpartition(":")[2]
        (tmp_path / "other").mkdir()
        assert f"port {port}" in refused(index, tmp_path / "other", "--port", port)
        service.signal(signal.SIGTERM)
        assert service.status() == 0
        with pytest.raises(ServiceError, match="does not answer"):
            client.count()
    log = service.stderr.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert len(lines) > 15 and all(line["event"] == "request" for line in lines)
    assert {"route": "/v1/search", "method": "POST", "status": 200, "level": "info"}.items() <= lines[1].items()
    assert "company" not in log and WRITER not in log


def test_a_body_of_a_million_bytes_is_taken_and_one_of_a_byte_more_is_not(index: Index, tmp_path: Path) -> None:
    """With its length told before it, and in chunks without one."""
    limit = Limits().max_body
    head, headers = b'{"texts": ["' + ONE.encode() + b'"]}', {"Content-Type": "application/json"}
    with served(index, tmp_path) as (_, address), Client(address) as client:
        for size, status in ((limit, 200), (limit + 1, 413)):
            body = head.ljust(size)
            pieces = (body[start : start + 65_536] for start in range(0, size, 65_536))
            for content in (body, pieces):
                response = client._http.post("/v1/encode", content=content, headers=headers)
                assert response.status_code == status
                assert ("content-length" in response.request.headers) == (content is body)


def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    async def accepted() -> int:
        options = []

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            options.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = listen("127.0.0.1", 0)
        async with await asyncio.start_server(answer, sock=listening):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            await reader.read()
            writer.close()
        return options[0]

    assert asyncio.run(accepted()) != 0


@pytest.mark.parametrize(
    "head, drops",
    [(b"", b""), (b"", b"\r\n"), (b"GET /", b"G"), (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n")],
)
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_connection_without_a_whole_head_is_closed(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, head: bytes, drops: bytes, asked_before: bool
) -> None:
    monkeypatch.setattr(run, "_HEAD_SECONDS", 0.3)
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def ask() -> float:
        service = serve()
        server = run.Server(create_app(service, page=False), service.limits, "loopback")
        server.config.timeout_keep_alive = 1
        listening = listen("127.0.0.1", 0)
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        if asked_before:
            writer.write(request)
            await reader.readuntil(b'{"status":"live"}')
        started = time.monotonic()
        writer.write(head)
        while not reader.at_eof() and time.monotonic() < started + 20:
            with suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(reader.read(1), 0.05)
            writer.write(drops)
        waited = time.monotonic() - started
        server.should_exit = True
        await serving
        return waited

    assert 0.2 < asyncio.run(ask()) < 10


async def answered(app: FastAPI, *parts: bytes) -> bytes:
    """What a client gets that sends these parts one after the other, until the connection is closed."""
    server = run.Server(app, Limits(), "loopback")
    listening = listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    answer = b""
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            with suppress(TimeoutError):
                answer += await asyncio.wait_for(reader.read(10_000), 0.1)
        while more := await asyncio.wait_for(reader.read(10_000), 20):
            answer += more
    writer.close()
    server.should_exit = True
    await serving
    return answer


@pytest.mark.parametrize("begun", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "])
def test_a_head_that_never_ends_is_refused(serve: Callable[..., Service], begun: bytes) -> None:
    answer = asyncio.run(answered(create_app(serve(), page=False), begun, *[b"a" * 20_000] * 10))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"connection: close" in answer


@pytest.mark.parametrize("before, status", [(b"", 401), (b"Authorization: Bearer " + READER.encode() + b"\r\n", 200)])
def test_fields_behind_the_body_are_not_headers(
    serve: Callable[..., Service], tmp_path: Path, before: bytes, status: int
) -> None:
    """They could give what a proxy in front of the service takes out of the headers."""
    head = b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    behind = b"Authorization: Bearer " + READER.encode() + b"\r\n"
    request = head + before + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + behind + b"\r\n"
    keys = Keys.read(write(tmp_path / "keys.toml", GOOD))
    answer = asyncio.run(answered(create_app(serve(), keys=keys, page=False), request))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_reading_ahead_bears_that_a_change_takes_a_segment_away(index: Index) -> None:
    read_ahead(index)
    [segment] = [index.directory / info.name for info in index.manifest.segments]
    shutil.rmtree(segment)
    read_ahead(index)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_it_ends(index: Index, tmp_path: Path, number: signal.Signals) -> None:
    options = ["--queue-size", "20000", "--max-num", "2000"]
    with served(index, tmp_path, *options) as (service, address), Client(address) as observer:
        answers = []
        sent = threading.Barrier(9)

        def ask(seed: int) -> None:
            with Client(address, retries=0) as client:
                client.count()  # it is connected
                sent.wait(60)
                answers.append((seed, client.sample(2000, standard_deviation=1.0, seed=seed)))

        threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(8)]
        for thread in threads:
            thread.start()
        sent.wait(60)

        def accepted() -> bool:
            """All of them: one is being computed while others wait."""
            done = metric(observer, 'smim_batch_items_sum{queue="decode"}')
            waiting = metric(observer, 'smim_queue_items{queue="decode"}')
            return waiting > 0 and done + waiting == 7 * 2000

        wait_until(accepted)
        service.signal(number)
        assert service.status() == 0
        for thread in threads:
            thread.join(60)
    assert sorted(seed for seed, _ in answers) == list(range(8))
    assert all(len(sentences) == 2000 for _, sentences in answers)


def test_it_ends_though_connections_are_open(index: Index, tmp_path: Path) -> None:
    with served(index, tmp_path, "--grace", "600") as (service, address), ExitStack() as connections:
        host, port = address.removeprefix("http://").split(":")
        for sent in (b"", b"GET /health/live HTTP/1.1\r\n", b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"):
            connection = connections.enter_context(socket.create_connection((host, int(port)), timeout=60))
            connection.sendall(sent)
        assert connection.recv(1_000)  # the last one was answered
        service.signal(signal.SIGTERM)
        assert service.status() == 0


def test_an_overloaded_service_refuses_at_once_and_clients_come_again(index: Index, tmp_path: Path) -> None:
    options = ["--max-batch", "64", "--max-num", "64", "--queue-size", "128"]
    with served(index, tmp_path, *options) as (_, address):

        def ask(seed: int, retries: int) -> int:
            with Client(address, timeout=30, retries=retries) as client:
                try:
                    return len(client.sample(64, standard_deviation=1.0, seed=seed))
                except ServiceError as error:
                    return error.status

        with ThreadPoolExecutor(16) as threads:
            impatient = list(threads.map(lambda seed: ask(seed, 0), range(16)))
            assert set(impatient) == {64, 429}
            patient = list(threads.map(lambda seed: ask(seed, 10), range(8)))
        assert set(patient) == {64}


def test_as_many_clients_are_let_in_as_the_queue_and_a_batch_hold(index: Index, tmp_path: Path) -> None:
    limits = Limits()
    allow_open_files(3_000)
    with served(index, tmp_path) as (_, address), ExitStack() as others, Client(address, retries=0) as client:
        host, port = address.removeprefix("http://").split(":")
        for _ in range(limits.queue_size + limits.max_batch):
            others.enter_context(socket.create_connection((host, int(port))))
        assert client.count() == 40


def test_a_client_that_leaves_takes_its_work_along(index: Index, tmp_path: Path) -> None:
    options = ["--queue-size", "5000", "--max-num", "4000"]
    with served(index, tmp_path, *options) as (_, address), Client(address) as client:
        host, port = address.removeprefix("http://").split(":")
        head = (
            b"POST /v1/sample HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        with ExitStack() as connections:
            # The others draw their codes in a fraction of the time that the first is computed, so they wait for it.
            for num in (4_000, 200, 200, 200):
                connection = connections.enter_context(socket.create_connection((host, int(port))))
                body = b'{"num": %d, "standard_deviation": 1}' % num
                connection.sendall(head % len(body) + body)
                assert client.count() == 40
            wait_until(lambda: metric(client, 'smim_queue_items{queue="decode"}') == 3 * 200)
        left = 'smim_requests_total{method="POST",route="/v1/sample",status="499"}'
        wait_until(lambda: metric(client, left) == 4)
        client.sample(1)
        assert metric(client, 'smim_batch_items_sum{queue="decode"}') == 4_000 + 1


def test_what_cannot_be_served_is_told_in_one_line(index: Index, tmp_path: Path, long_model: Path) -> None:
    assert "is not an index" in refused(index, tmp_path, "--index", str(tmp_path / "none"))
    assert "another model" in refused(index, tmp_path, "--model", str(long_model))
    assert "does not exist" in refused(index, tmp_path, "--keys", str(tmp_path / "none.toml"))
    assert "queue_size" in refused(index, tmp_path, "--queue-size", "1")
    assert "cannot listen" in refused(index, tmp_path, "--host", "nowhere.invalid")
