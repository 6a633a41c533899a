"""Every error as a client sees it: a status, and `{"error": {"type", "message"}}`."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from smim.errors import SmimError
from smim.serve.schemas import ErrorResponse
from smim.serve.service import Busy, Conflict, NotFound, Unavailable

TYPES = {
    400: ("invalid_json", "The body cannot be read as JSON."),
    401: ("unauthorized", "There is no key, or none that is known."),
    403: ("forbidden", "The key lacks the right, or the page that asks is of another origin."),
    404: ("not_found", "There is no such sentence or path."),
    405: ("method_not_allowed", "This path has other methods."),
    408: ("timeout", "The body did not arrive in time."),
    409: ("conflict", "The index is being changed by another process."),
    413: ("too_large", "The body is too large."),
    421: ("misdirected", "The request is for a host that the service does not answer for."),
    422: ("invalid", "The request is well formed JSON but cannot be carried out."),
    429: ("busy", "Too many requests are waiting; come again after the seconds of the header Retry-After."),
    500: ("internal", "A fault of the service, which is in its log."),
    503: ("unavailable", "The service is starting or shutting down, or its index cannot be read."),
}
_MOST_SHOWN = 5
_LONGEST_MESSAGE = 500


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of these errors."""
    return {status: {"model": ErrorResponse, "description": TYPES[status][1]} for status in statuses}


def shortened(message: str) -> str:
    """A message, which may repeat what a client sent, without its middle where it is long."""
    half = _LONGEST_MESSAGE // 2
    return message if len(message) <= 2 * half else f"{message[:half]} ... {message[-half:]}"


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    # Text that holds a half of a surrogate pair cannot be sent.
    text = shortened(message).encode("utf-8", "replace").decode()
    return JSONResponse({"error": {"type": TYPES.get(status, ("error", ""))[0], "message": text}}, status, headers)


def add_handlers(app: FastAPI) -> None:
    @app.exception_handler(SmimError)
    async def _of_smim(request: Request, error: SmimError) -> JSONResponse:
        if isinstance(error, Busy):
            return error_response(429, str(error), {"Retry-After": str(error.retry_after)})
        kinds = {NotFound: 404, Conflict: 409, Unavailable: 503}
        status = kinds.get(type(error), 422 if error.exit_status == 2 else 503)
        return error_response(status, str(error))

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
