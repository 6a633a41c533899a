"""The page at `/`: static files, which ask `/v1` and nothing else. `source/` is what they are built from.

They are read once, and served by their names, so that no path leads anywhere else. They say nothing of the index, so
everybody gets them; where the service has keys, the page asks for one.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import Response

from smim.serve.tagged import tag_of, tagged

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Scripts, styles and answers come from here alone; nobody may show the page inside of theirs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def add_page(app: FastAPI) -> None:
    """Puts the page at `/`, and its files beside it."""
    for file in files(__name__).joinpath("static").iterdir():
        content, kind = file.read_bytes(), _KINDS[file.name[file.name.rindex(".") :]]
        path = "/" if file.name == "index.html" else f"/{file.name}"
        app.add_api_route(path, _sender(content, kind), methods=["GET", "HEAD"], include_in_schema=False)


def _sender(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    tag = tag_of(content)
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    async def send(request: Request) -> Response:
        return tagged(request, content, tag, kind, headers)

    return send
