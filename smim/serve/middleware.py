"""Middleware for each request: limit its body, cancel it if the client leaves, log and count it."""

import asyncio
import json
import logging
import sys
import time
import traceback
import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smim.serve.errors import error_response
from smim.serve.limits import LARGEST_DEPTH, too_deep
from smim.serve.metrics import Metrics

logger = logging.getLogger("smim.serve")
_BODY_SECONDS = 30
_METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")
_CLIENT_LEFT = 499  # the status that nginx logs


class Guard:
    """Reads each request's body, of at most `max_body` bytes, and cancels API work when its client leaves.

    `prefix`: the beginning of the API's paths.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, max_body: int) -> None:
        self.app, self.prefix, self.max_body = app, prefix, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused: tuple[Any, ...] | None = None
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await self._body(scope, receive)
        except TimeoutError:
            refused = 408, f"the body did not arrive within {_BODY_SECONDS} s"
        else:
            if body is None:
                # The rest of the body stays unread, so the connection cannot be reused.
                refused = 413, f"the body is larger than {self.max_body} bytes", {"Connection": "close"}
            elif too_deep(body):
                refused = 400, f"the body is nested more than {LARGEST_DEPTH} levels deep"
        if refused:
            await error_response(*refused)(scope, receive, send)
            return
        # The application finds the body as one message.
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        of_api = scope["path"].startswith(self.prefix)
        await (self._while_there if of_api else self.app)(scope, replay, send)

    async def _while_there(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and cancel it when the client leaves."""
        messages = [await receive()]
        working = asyncio.current_task()
        assert working is not None
        left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            working.cancel()

        async def replay() -> Message:
            if not messages:
                await asyncio.wait([watching])
            return messages.pop() if messages else {"type": "http.disconnect"}

        watching = asyncio.ensure_future(watch())
        try:
            await self.app(scope, replay, send)
        except asyncio.CancelledError:
            if not left or working.uncancel():  # somebody else cancelled
                raise
        finally:
            watching.cancel()

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body, or None if it is too large; if a client leaves early, what it sent counts as the body."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_body:
            return None
        parts, size = [], 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_body:
                return None
            if not message.get("more_body"):
                return b"".join(parts)


class Observed:
    """Logs and counts each request by its route, never its content; an internal error has status 500."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: set[str]) -> None:
        self.app, self.metrics, self.routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id, started, status = uuid.uuid4().hex[:16], time.perf_counter(), 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", id.encode())]
            await send(message)

        fault = None
        try:
            await self.app(scope, receive, send_noting)
        except Exception as error:
            fault = error
            if not status:
                await error_response(500, f"an internal error of the service; its log describes it under the id {id}")(
                    scope, receive, send_noting
                )
        finally:
            status = status or _CLIENT_LEFT
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "")
            route = route if route in self.routes else "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.answered(method, route, status, seconds)
            known: dict[str, Any] = {"method": method, "route": route, "status": status,
                                     "milliseconds": round(1000 * seconds, 1), "request": id}  # fmt: skip
            logger.log(logging.ERROR if fault else logging.INFO, "request", extra={"known": known | of_fault(fault)})


def of_fault(error: object) -> dict[str, Any]:
    """The kind and origin of an exception, without its message, which may contain a user's text."""
    if not isinstance(error, Exception):
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    return {"fault": type(error).__name__, "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}


class JsonLines(logging.Formatter):
    """Formats one JSON object per line: time, level, event, and the known facts about a request."""

    def format(self, record: logging.LogRecord) -> str:
        time_ = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields = {"time": time_, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(fields | getattr(record, "known", {}) | of_fault(record.exc_info and record.exc_info[1]))


def log_to_stderr(*, others: bool = True) -> None:
    """Log as JSON lines on stderr; `others`: also the warnings of uvicorn and others, else leave theirs alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger.setLevel(logging.INFO)
    if not others:
        logger.handlers, logger.propagate = [handler], False
        return
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
