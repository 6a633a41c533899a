"""How the page's handlers are called and tell of errors, and the HTML block that they write into."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import gradio as gr

from smim.errors import SmimError
from smim.serve.errors import for_clients
from smim.serve.page import fragments

Handler = Callable[..., Awaitable[Any]]

# The service has its own queues; a call without Gradio's is one request, so any process may answer it.
QUIET: dict[str, Any] = {
    "queue": False,
    "api_visibility": "private",
    "show_progress": "minimal",
    "trigger_mode": "always_last",
}


def shown(output: gr.HTML) -> Callable[[Handler], Handler]:
    """A handler whose errors that are meant for the user are written into `output`; it returns values by component."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def answered(*args: Any) -> Any:
            try:
                return await handler(*args)
            except SmimError as error:
                return {output: fragments.problem(for_clients(error))}

        return answered

    return decorate


def html(value: str = "", **options: Any) -> gr.HTML:
    """An HTML block for `fragments`, whose buttons call the handlers of its event `act`."""
    return gr.HTML(value, js_on_load=fragments.ON_CLICK, **options)
