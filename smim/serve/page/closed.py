"""What of Gradio a browser can reach: the paths that the page asks for, without what else Gradio would do for them."""

import asyncio
import logging
from typing import Any

import gradio as gr
from starlette.routing import Match, Mount
from starlette.types import Message, Receive, Scope, Send

from smim.serve.errors import add_handlers, error_response
from smim.serve.middleware import of_fault

logger = logging.getLogger("smim.serve")
_API = ("v1", "health", "metrics")  # the first parts of its paths
_PATHS = ("/", "/theme.css", "/favicon.ico")
_FOLDERS = ("/assets/", "/static/")
_CALLS = ("/gradio_api/run/predict", "/login")
# What the page needs; of others Gradio would take another site's origin, or another address of its own.
_HEADERS = (b"host", b"content-type", b"content-length", b"cookie", b"accept-encoding", b"if-none-match", b"range")


class Blocks(gr.Blocks):
    """Gradio's, but what a call raises is logged without what the call said, which Gradio would print."""

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super().process_api(*args, **kwargs)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, Exception):
                logger.warning("page", extra={"known": of_fault(error)})
            raise gr.Error("This cannot be carried out.", print_exception=False) from None


class Page(Mount):
    """The page, at every path that is not the API's: what the API lacks, or does not allow, it says itself."""

    def __init__(self, mounted: Mount) -> None:
        """`mounted`: as `gr.mount_gradio_app` left it."""
        add_handlers(mounted.app)  # type: ignore[arg-type]
        super().__init__(mounted.path, mounted.app)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        return (Match.NONE, {}) if path.partition("/")[0] in _API else super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the page does not ask for is not there; a call that Gradio fails at is a wrong call."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        calls, reads = path in _CALLS, path in _PATHS or path.startswith(_FOLDERS)
        if not (calls if scope["method"] == "POST" else reads and scope["method"] in ("GET", "HEAD")):
            await error_response(404, "Not Found")(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name in _HEADERS]

        async def send_ours(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 500:
                message["status"] = 422
            await send(message)

        try:
            await self.app({**scope, "headers": headers, "query_string": b""}, receive, send_ours)
        except Exception as error:  # Gradio's last handler has answered and hands it on
            logger.warning("page", extra={"known": of_fault(error)})
