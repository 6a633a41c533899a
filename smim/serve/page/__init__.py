"""The page at `/`: static files that send requests only to `/v1`. They are built from `source/`.

The files are read once and served by their names, so no path leads to other files. They contain nothing about the
index, so they are public. If the service has keys, the page asks for one.
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
# Scripts, styles and data come only from this service, and no other page may embed this one.
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
    """Serve the page at `/`, and its files beside it."""
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
