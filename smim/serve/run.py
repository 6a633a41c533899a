"""Run the service as a process, from the index's directory to a clean end."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import smim
from smim.errors import UserError
from smim.search import Index
from smim.search.factory import half_of_memory
from smim.search.rerank import cross_encoder
from smim.search.segment import VECTORS
from smim.serve.access import Access
from smim.serve.app import create_app
from smim.serve.backend import LocalBackend
from smim.serve.keys import Keys
from smim.serve.limits import Limits
from smim.serve.middleware import log_to_stderr
from smim.serve.service import Service
from smim.waiting import doing

# How long Python runs a thread before it switches, by default 5 ms. Encoding and decoding consist of many short steps,
# and each would wait this long while the event loop refuses excess requests.
_TURN_SECONDS = 1e-4
_HEAD_SECONDS = 10
_HEAD_BYTES = 1 << 16
_OTHER_FILES = 1_000
_READ_AT_ONCE = 1 << 24


def serve(
    index: Path | str,
    *,
    model: Path | str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Path | str | None = None,
    access: Access | None = None,
    page: bool = True,
    reranker: Path | str | None = None,
    gpu: bool = False,
    limits: Limits | None = None,
    grace_seconds: int = 30,
) -> None:
    """Serve an index until SIGTERM or SIGINT, then finish accepted requests within `grace_seconds`.

    `port` 0: a free port. `keys`: a file of `smim.serve.keys`. `reranker`: a cross-encoder for searches with `rerank`.
    `gpu`: FAISS searches on a GPU. Prints the address when it is ready; the log is JSON lines on stderr. Raises
    `UserError` for a port in use, and as `open_index`, `cross_encoder` and `Keys.read` do.
    """
    known = Keys.read(keys) if keys else None
    listening = listen(host, port)  # before the model is loaded, which takes longer
    by = cross_encoder(reranker) if reranker else None
    backend = LocalBackend(index, model=smim.load(model) if model else None, gpu=gpu)
    service = Service(backend.model, backend, limits, reranker=by)
    app = create_app(service, keys=known, page=page, access=access)
    log_to_stderr()
    allow_open_files(service.limits.most_requests + _OTHER_FILES)
    host = f"[{host}]" if ":" in host else host
    server = Server(app, service.limits, f"http://{host}:{listening.getsockname()[1]}", grace_seconds=grace_seconds)
    answer_promptly()
    threading.Thread(target=read_ahead, args=(backend.index,), daemon=True).start()
    # uvicorn raises the signal again at its end. All is done by then, so ignore it and exit with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run([listening])
    logging.shutdown()


def read_ahead(index: Index) -> None:
    """Read FAISS's files into the system's page cache, if they fill at most half of the memory.

    Otherwise the first searches of a graph on disk would read it page by page, from random places.
    """
    paths = [index.directory / segment.name / VECTORS for segment in index.manifest.segments]
    with suppress(OSError):  # a change of the index may remove a segment
        if sum(path.stat().st_size for path in paths) > half_of_memory():
            return
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while file.read(_READ_AT_ONCE):
                    pass


def answer_promptly() -> None:
    """Prepare a process whose event loop and model share the interpreter; call it when both exist."""
    sys.setswitchinterval(_TURN_SECONDS)
    # A garbage collection visits all of the libraries' objects, which blocks all answers for a third of a second.
    gc.collect()
    gc.freeze()


def allow_open_files(number: int) -> None:
    """Raise the limit of open files as far as allowed: each connection is one; shells often set 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(number, hard)), hard))


class Connection(HttpToolsProtocol):
    """A connection that closes if a request's head is too large or late; uvicorn would wait forever and keep it all."""

    _closing: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end_waiting()
        elif not self.transport.is_closing():
            self._await_head()
            self._received += len(data)
            if self._received > _HEAD_BYTES:
                self.send_400_response("The request's head is too large.")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.headers = []  # for the fields after a body in chunks, which must not count as headers

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._closing = self._closing or self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _end_waiting(self) -> None:
        self._received = 0
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


class Server(uvicorn.Server):
    """A server that prints its address as soon as it listens."""

    def __init__(self, app: FastAPI, limits: Limits, address: str, *, grace_seconds: int = 30) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # no answer depends on them
            limit_concurrency=limits.most_requests,
            timeout_graceful_shutdown=grace_seconds,
        )
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"serving on {self._address}, process {os.getpid()}", flush=True)
        doing("")


def listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # If the protocol is named, asyncio sets TCP_NODELAY. Otherwise an answer waits 40 ms for the client's ACK.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error}; give another --port or --host") from None
    return listening
