"""Every error as a client sees it: a status, and `{"error": {"type", "code", "message"}}`.

A status follows from the error's code; `type` is what that status is called, `code` may say more.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from smim.errors import SmimError
from smim.search.errors import OfIndex, Unreadable
from smim.serve.batching import Busy
from smim.serve.schemas import ErrorResponse

logger = logging.getLogger("smim.serve")

# Of each kind of error: its status, and what it says.
CODES = {
    "invalid_json": (400, "The body cannot be read as JSON."),
    "unauthorized": (401, "There is no key, or none that is known."),
    "forbidden": (403, "The key lacks the right, or the page that asks is of another origin."),
    "not_found": (404, "There is no such sentence or path."),
    "method_not_allowed": (405, "This path has other methods."),
    "timeout": (408, "The body did not arrive in time."),
    "conflict": (409, "The index is being changed by another process."),
    "too_large": (413, "The body is too large."),
    "misdirected": (421, "The request is for a host that the service does not answer for."),
    "invalid": (422, "The request is well formed JSON but cannot be carried out."),
    "unsupported": (422, "The service's model cannot do this."),
    "bad_filter": (422, "The filter is none, too large, or does not fit the labels."),
    "busy": (429, "Too many requests are waiting; come again after the seconds of the header Retry-After."),
    "internal": (500, "A fault of the service, which is in its log."),
    "unavailable": (503, "The service is starting or shutting down, or its index cannot be read."),
    "unreadable": (503, "The index cannot be read."),
}
# What a status is called: its first code.
_TYPES = {status: code for code, (status, _) in reversed(CODES.items())}
# Instead of messages that name places of this machine.
_TOLD = {
    "conflict": "the index is being changed by another process; wait until it is done",
    "unreadable": "the index cannot be read; the log of the service says why",
}
_RETRY_AFTER = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}}
_MOST_SHOWN = 5
_LONGEST_MESSAGE = 500


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these errors."""
    more = {429: {"headers": _RETRY_AFTER}}
    return {
        status: {"model": ErrorResponse, "description": CODES[_TYPES[status]][1], **more.get(status, {})}
        for status in statuses
    }


def shortened(message: str) -> str:
    """A message, which may repeat what a client sent, without its middle where it is long."""
    half = _LONGEST_MESSAGE // 2
    return message if len(message) <= 2 * half else f"{message[:half]} ... {message[-half:]}"


def for_clients(error: SmimError) -> str:
    """The message of an error, without the place of the index on this machine."""
    if isinstance(error, Unreadable):
        logger.error("index", extra={"known": {"message": str(error)}})
    return f"the index {error.what}" if isinstance(error, OfIndex) else _TOLD.get(error.code, str(error))


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None, *, code: str | None = None
) -> JSONResponse:
    # Text that holds a half of a surrogate pair cannot be sent.
    text = shortened(message).encode("utf-8", "replace").decode()
    kind = _TYPES.get(status, "error")
    return JSONResponse({"error": {"type": kind, "code": code or kind, "message": text}}, status, headers)


def add_handlers(app: FastAPI) -> None:
    @app.exception_handler(SmimError)
    async def _of_smim(request: Request, error: SmimError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else None
        return error_response(CODES[error.code][0], for_clients(error), headers, code=error.code)

    @app.exception_handler(RequestValidationError)
    async def _of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()
        if any(each["type"] == "json_invalid" for each in errors):
            return error_response(400, "the body is not JSON")
        shown = [f"{_place(each['loc'])}: {each['msg']}" for each in errors[:_MOST_SHOWN]]
        more = len(errors) - len(shown)
        return error_response(422, "; ".join([*shown, *([f"and {more} more"] if more else [])]))

    @app.exception_handler(HTTPException)
    async def _of_http(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, str(error.detail), error.headers)


def _place(location: Sequence[Any]) -> str:
    """Where in a request; a key that may be a text of the user's is not repeated."""
    named = [str(part) if isinstance(part, int) or (part.isidentifier() and len(part) <= 40) else "..."
             for part in location]  # fmt: skip
    return ".".join(named)
