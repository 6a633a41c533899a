"""Errors as clients see them: a status, and `{"error": {"type", "code", "message"}}`.

The error's code determines the status. `type` is the status's general name; `code` may be more specific.
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

# For each code: its status and its description.
CODES = {
    "invalid_json": (400, "The body cannot be read as JSON."),
    "unauthorized": (401, "The key is missing or unknown."),
    "forbidden": (403, "The key lacks the right, or the page has another origin."),
    "not_found": (404, "There is no such sentence or path."),
    "method_not_allowed": (405, "This path does not support the method."),
    "timeout": (408, "The body did not arrive in time."),
    "conflict": (409, "The index is being changed by another process."),
    "too_large": (413, "The body is too large."),
    "misdirected": (421, "The request names a host that is not this service."),
    "invalid": (422, "The request is valid JSON but cannot be carried out."),
    "unsupported": (422, "The service's model cannot do this."),
    "bad_filter": (422, "The filter is malformed, too large, or does not fit the labels."),
    "busy": (429, "Too many requests are waiting; try again after the seconds in the header Retry-After."),
    "internal": (500, "An internal error, described in the service's log."),
    "unavailable": (503, "The service is starting or shutting down, or its index cannot be read."),
    "unreadable": (503, "The index cannot be read."),
}
# The type of a status: its first code.
_TYPES = {status: code for code, (status, _) in reversed(CODES.items())}
# Replace messages that contain paths of this machine.
_TOLD = {
    "conflict": "the index is being changed by another process; wait until it is done",
    "unreadable": "the index cannot be read; see the service's log",
}
_RETRY_AFTER = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}}
_MOST_SHOWN = 5
_LONGEST_MESSAGE = 500


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI descriptions of these errors."""
    more = {429: {"headers": _RETRY_AFTER}}
    return {
        status: {"model": ErrorResponse, "description": CODES[_TYPES[status]][1], **more.get(status, {})}
        for status in statuses
    }


def shortened(message: str) -> str:
    """The message without its middle if it is long; it may repeat a client's input."""
    half = _LONGEST_MESSAGE // 2
    return message if len(message) <= 2 * half else f"{message[:half]} ... {message[-half:]}"


def for_clients(error: SmimError) -> str:
    """The message of an error, without the path of the index on this machine."""
    if isinstance(error, Unreadable):
        logger.error("index", extra={"known": {"message": str(error)}})
    return f"the index {error.what}" if isinstance(error, OfIndex) else _TOLD.get(error.code, str(error))


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None, *, code: str | None = None
) -> JSONResponse:
    # Half of a surrogate pair cannot be sent.
    text = shortened(message).encode("utf-8", "replace").decode()
    kind = _TYPES.get(status, "error")
    return JSONResponse({"error": {"type": kind, "code": code or kind, "message": text}}, status, headers)


def response_of(error: SmimError) -> JSONResponse:
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else None
    return error_response(CODES[error.code][0], for_clients(error), headers, code=error.code)


def add_handlers(app: FastAPI) -> None:
    @app.exception_handler(SmimError)
    async def _of_smim(request: Request, error: SmimError) -> JSONResponse:
        return response_of(error)

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
    """The location in a request; keys that may be a user's text are not repeated."""
    named = [str(part) if isinstance(part, int) or (part.isidentifier() and len(part) <= 40) else "..."
             for part in location]  # fmt: skip
    return ".".join(named)
