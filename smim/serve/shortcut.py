"""A short way from a search request to its answer, for the operation that a service computes most often."""

import json
from typing import Any

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smim.errors import SmimError
from smim.search.query import SearchResult
from smim.serve import schemas
from smim.serve.errors import response_of
from smim.serve.keys import Keys
from smim.serve.routes import searched
from smim.serve.service import Service

_JSON = "application/json"
_RESULT: TypeAdapter[SearchResult] = TypeAdapter(SearchResult)


class Shortcut:
    """Answers valid searches without FastAPI, whose own work took a tenth of a request's processor time.

    The application gets all other requests, also those without the right to search and those with a wrong body, and
    describes what is wrong. `route`: the application's own route of the search, at `path`.
    """

    def __init__(self, app: ASGIApp, *, service: Service, keys: Keys | None, path: str, route: APIRoute) -> None:
        self.app, self.service, self.keys, self.path, self.route = app, service, keys, path, route
        self.body: Any = schemas.Bodies(service.limits).search

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.path or not self._takes(scope):
            await self.app(scope, receive, send)
            return
        messages: list[Message] = [await receive()]  # the whole body, from `Guard`
        try:
            body = self.body.model_validate(json.loads(messages[0]["body"]))
        except ValueError:

            async def replay() -> Message:
                return messages.pop() if messages else await receive()

            await self.app(scope, replay, send)
            return
        scope["route"] = self.route
        try:
            result = await searched(self.service, body)
            response = Response(_RESULT.dump_json(_RESULT.validate_python(result)), media_type=_JSON)
        except SmimError as error:
            response = response_of(error)
        await response(scope, receive, send)

    def _takes(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        if scope["method"] != "POST" or headers.get("content-type") != _JSON:
            return False
        kind, _, key = headers.get("authorization", "").partition(" ")
        return self.keys is None or (kind == "Bearer" and self.keys.may(key, "read"))
