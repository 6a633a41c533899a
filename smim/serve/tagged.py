"""Responses that a browser caches, revalidates each time, and receives again only if they changed."""

import hashlib
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import Response


def tag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def tagged(
    request: Request, content: bytes, tag: str, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The content, or status 304 if the client already has the content of this `tag`."""
    sent = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=sent)
    return Response(content, media_type=media_type, headers=sent)
