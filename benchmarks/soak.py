"""Test a service under load: random valid, invalid and hostile requests, and many clients of all sizes at a time.

    python benchmarks/soak.py requests indexes/ptb --count 10000 --seconds 1800 --seed 1
    python benchmarks/soak.py soak indexes/ptb --seconds 600 --heavy 40 --items 256
    python benchmarks/soak.py memory indexes/ptb --count 100000

Each command starts `smim serve` on loopback. `requests` and `soak` use a copy of the index, and print one JSON object.
`requests` counts statuses. It fails if a status is 5xx (except 503), or if the log contains a traceback, a line that is
not JSON, or a client's text. `soak` reports the waiting times of a light client and of health probes, in seconds, while
heavy clients send requests without pause. It also reports the memory of the service in MB at the start and at the end.
`memory` prints the memory of the service every 10 seconds while clients search.
"""

import collections
import contextlib
import http.client
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks import common

SECRET = "zanzibar"  # part of every sent text, to search the log for it
TEXT = f"the food was good {SECRET}"
KEYS = {right: f"a-key-of-the-soak-{right}" for right in ("read", "write")}
KEYS_FILE = "".join(
    f'[[keys]]\nname="{right}"\nkey="{key}"\nrights=["read", "{right}"]\n' for right, key in KEYS.items()
)
# fmt: off
QUERIES: list[dict[str, Any]] = [{"text": TEXT}, {"id": 1}, {"line": {"first": TEXT, "second": "bad", "at": 0.5}},
                                 {"sum": {"plus": [TEXT, "bad"]}}]
ROUTES: dict[str, list[dict[str, Any]]] = {
    "POST /v1/search": [query | {"k": 2, "where": {"text": {"$contains": SECRET}}} for query in QUERIES]
    + [{"text": TEXT, "k": 3, "reconstruct": True, "score": True, "decode": True, "settings": {"nprobe": 4}}],
    "POST /v1/search/batch": [{"queries": QUERIES, "k": 3, "max_distance": 4.0}],
    "POST /v1/encode": [{"texts": [TEXT, "good"]}], "POST /v1/sentences/get": [{"ids": [0, 1]}],
    "POST /v1/decode": [{"codes": [[0.1] * 64], "sample": True}], "POST /v1/sample": [{"num": 2, "seed": 3}],
    "POST /v1/reconstruct": [{"texts": [TEXT], "sample": True}], "POST /v1/perturb": [{"text": TEXT, "num": 2}],
    "POST /v1/interpolate": [{"first": TEXT, "second": "bad"}], "POST /v1/answer": [{"question": TEXT}],
    "POST /v1/arithmetic": [{"plus": [TEXT], "minus": ["bad"]}], "PUT /v1/sentences": [{"texts": [TEXT], "ids": [3]}],
    "POST /v1/count": [{"where": {"$or": [{"text": SECRET}, {"text": {"$in": [SECRET, "good"]}}]}}],
    "POST /v1/sentences": [{"texts": [TEXT]}, {"texts": ["good"], "ids": [7], "labels": {SECRET: [SECRET]}}],
    "POST /v1/sentences/delete": [{"ids": [3]}, {"where": {"text": SECRET}}],
    "POST /v1/map/place": [{"queries": [*QUERIES, {"code": [0.1] * 64}]}],
}
PAGES = ["/", "/docs", "/openapi.json", "/metrics", "/health/live", "/health/ready", "/v1/index", "/v1/count",
         "/v1/overview", "/v1/map", "/v1/sentences/1", "/page.js", "/map.js", "/chunk.js", "/page.css", "/icon.svg",
         "/licenses.txt", "/index.html", "/favicon.ico", "/static-offline-docs/swagger-ui.css", "/docs/oauth2-redirect"]
IN_PATHS = ["/", "/../../etc/passwd", "%00", "%ff", f"?q={SECRET}", "//a.example", "%2e%2e/", "x" * 5_000]
IN_BODIES = [b"", b"\0", b"\xff", b'"', b"[" * 5_000, b'{"a":' * 5_000, b"9" * 5_000, b"1e999", b"zanzibar" * 50_000]
ODD: list[Any] = [None, True, -1, 0, 1.5, 2**53, 2**63, 10**400, 1e308, float("nan"), float("-inf"), "", " ", "\ud800",
                  SECRET, "\0", [], {}, [[]], [None], [SECRET] * 300, SECRET * 3_000, {SECRET: 1}, "e\u0301" * 50,
                  {"$and": [{"text": SECRET}] * 300}, {"text": {"$in": []}}, {"$not": {"$not": {}}},
                  {"text": {"$contains": 3}}, {"text": {f"${SECRET}": SECRET}}]
NAMES = ["Host", "Origin", "Sec-Fetch-Site", "Cookie", "Authorization", "Content-Type", "Range", "X-Forwarded-Host",
         "X-Forwarded-Proto", "Accept-Encoding", "Transfer-Encoding", "Content-Length", "Expect", "Upgrade"]
VALUES = ["", SECRET, "a.example", f"http://{SECRET}.example", "null", "cross-site", "bytes=9-1", "-1", "\xff", "https",
          "websocket", "100-continue", "x" * 9_000, f"multipart/form-data; boundary={SECRET}", "chunked"]
# fmt: on


@contextlib.contextmanager
def guarded(index: Path) -> Iterator[tuple[int, int, Path]]:
    """Start a service with keys over a copy of the index. Yields its port, its process, and the path of its log."""
    with tempfile.TemporaryDirectory() as folder:
        directory, log, keys = (Path(folder) / name for name in ("index", "log", "keys.toml"))
        shutil.copytree(index, directory)
        keys.touch(0o600)
        keys.write_text(KEYS_FILE)
        with common.served(directory, log, "--keys", keys) as (port, process):
            yield port, process, log


def ask(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    """Send a request and return the status; 0 if the connection ended without one."""
    headers = {"Authorization": f"Bearer {KEYS['read']}", "Content-Type": "application/json"} | (headers or {})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        try:
            connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in (headers | ({} if body is None else {"Content-Length": str(len(body))})).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            return 0


def mutated(value: Any, random: Random) -> Any:
    """Replace, remove or add one part of a request's body, at any depth."""
    if isinstance(value, dict | list) and value and random.random() < 0.8:
        copy, places = value.copy(), list(value) if isinstance(value, dict) else range(len(value))
        place = random.choice(places)
        if random.random() < 0.15:
            del copy[place]
        else:
            copy[place] = mutated(value[place], random)
        return copy
    return {**value, SECRET: 1} if isinstance(value, dict) and random.random() < 0.2 else random.choice(ODD)


def one_request(random: Random) -> tuple[str, str, str, bytes | None, dict[str, str]]:
    """Make a random request: its kind, method, path, body and headers."""
    kind = random.choice(["valid", "mutated", "mutated", "spoiled", "page", "path", "headers"])
    route = random.choice(list(ROUTES))
    method, path = route.split()
    content = random.choice(ROUTES[route])
    body: bytes | None = (made := json.dumps(mutated(content, random) if kind == "mutated" else content).encode())
    headers = {"Authorization": f"Bearer {random.choice([*KEYS.values()] * 3 + [SECRET])}"}
    if kind == "spoiled":
        place = random.randrange(len(made) + 1)
        body = random.choice(
            [made[:place], made[:place] + random.choice(IN_BODIES) + made[place:], random.randbytes(50)]
        )
    elif kind == "page":
        method, path, body = random.choice(["GET", "HEAD", "GET", "POST", "OPTIONS"]), random.choice(PAGES), None
    elif kind == "path":
        method, body = random.choice(["GET", "GET", "POST", "PUT", "DELETE", "PATCH", SECRET.upper()]), None
        path = random.choice([path, *PAGES])
        place = random.choice([0, path.rfind("/") + 1, len(path)])
        path = path[:place] + random.choice(IN_PATHS) + path[place:]
    elif kind == "headers":
        headers[random.choice(NAMES)] = random.choice(VALUES)
    return kind, method, path, body, headers


def requests(index: Path, count: int = 10_000, seconds: float = 600, seed: int = 1) -> None:
    """Send random requests until the number or the time is reached."""
    counts: collections.Counter[str] = collections.Counter()
    deadline, numbers = time.monotonic() + seconds, iter(range(count))
    wrong: list[str] = []
    with guarded(index) as (port, process, log):

        def send() -> None:
            for number in numbers:
                if time.monotonic() > deadline:
                    return
                kind, method, path, body, headers = one_request(Random(f"{seed} {number}"))
                status = ask(port, method, path, body, headers)
                counts[f"{kind} {status}"] += 1
                if (status >= 500 and status != 503) or (status == 0 and kind not in ("headers", "path")):
                    wrong.append(f"{number}: {status} {kind} {method} {path[:80]} {(body or b'')[:200]!r} {headers}")

        run_all([send] * 8)
        ready, megabytes = ask(port, "GET", "/health/ready"), common.memory(process) // 1_000_000
        lines = log.read_text().splitlines()
    wrong += [line[:500] for line in lines if not line.startswith("{") or SECRET in line.lower() or "Traceback" in line]
    faults = collections.Counter(re.sub(r".*(\"fault\": .*)", r"\1", line)[:300] for line in lines if '"fault"' in line)
    found = {"sent": sum(counts.values()), "statuses": dict(sorted(counts.items())), "ready_at_the_end": ready}
    found |= {"memory_mb": megabytes, "faults_logged": dict(faults.most_common(10)), "wrong": wrong[:20]}
    print(json.dumps(found, indent=1))
    sys.exit(bool(wrong))


def send_heavy(port: int, clients: int, items: int, seconds: float) -> dict[int, int]:
    """Run clients that send requests without pause, in a separate process; each request has a few items or all."""
    deadline = time.monotonic() + seconds
    counts: collections.Counter[int] = collections.Counter()

    def send(number: int) -> None:
        random = Random(number)
        while time.monotonic() < deadline:
            texts = [f"{TEXT} {random.randrange(100)}" for _ in range(random.choice([items // 4, items, items]))]
            queries = {"queries": [{"text": text} for text in texts], "k": 10}
            path, body = random.choice([("search/batch", queries)] * 2 + [("reconstruct", {"texts": texts})])
            counts[ask(port, "POST", f"/v1/{path}", json.dumps(body).encode())] += 1

    run_all([partial(send, number) for number in range(clients)])
    return dict(counts)


def soak(index: Path, seconds: float = 600, heavy: int = 40, items: int = 256) -> None:
    """Measure the waits of a light client and of probes beside heavy clients."""
    waits: dict[str, list[tuple[int, float]]] = {"light": [], "ready": [], "live": []}
    with guarded(index) as (port, process, _), ProcessPoolExecutor(1) as pool:
        asked = {name: partial(ask, port, "GET", f"/health/{name}") for name in ("ready", "live")}
        asked["light"] = partial(ask, port, "POST", "/v1/search", json.dumps({"text": TEXT, "k": 5}).encode())
        asked["light"]()
        before, deadline = common.memory(process), time.monotonic() + seconds
        others = pool.submit(send_heavy, port, heavy, items, seconds)

        def watch(name: str) -> None:
            while time.monotonic() < deadline:
                started = time.monotonic()
                waits[name].append((asked[name](), time.monotonic() - started))
                time.sleep(0.1)

        run_all([partial(watch, name) for name in waits])
        heavies, megabytes = others.result(), [each // 1_000_000 for each in (before, common.memory(process))]
    found = {"heavy": heavies, "memory_mb": megabytes} | {name: described(each) for name, each in waits.items()}
    print(json.dumps(found, indent=1))


def memory(index: Path, count: int = 100_000, clients: int = 8) -> None:
    """Print the service's memory while it answers searches by text, ten hits each."""
    sent, searches = 0, common.searches(index)
    with (
        tempfile.TemporaryDirectory() as folder,
        common.served(index, Path(folder) / "log", "--no-page") as (port, process),
        ProcessPoolExecutor(1) as client,
    ):
        while sent < count:
            sent += len(client.submit(common.send, port, searches, clients, 10).result())
            print(f"{sent:,} answers: {common.memory(process) / 1e6:.1f} MB", flush=True)


def described(waits: list[tuple[int, float]]) -> dict[str, Any]:
    """The statuses, and quantiles of the seconds."""
    quantiles = np.quantile([seconds for _, seconds in waits], [0.5, 0.95, 0.99, 1]).round(3).tolist()
    statuses = collections.Counter(status for status, _ in waits)
    return {"statuses": statuses, **dict(zip(("median", "p95", "p99", "worst"), quantiles, strict=True))}


def run_all(work: Sequence[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(work)) as threads:
        list(threads.map(lambda each: each(), work))


if __name__ == "__main__":
    common.main(__doc__, requests, soak, memory)
