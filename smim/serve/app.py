"""The HTTP interface of a service: `/v1/...`, `/health/...`, `/metrics`, `/docs`, and the page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

import smim
from smim.errors import UserError
from smim.serve import schemas
from smim.serve.access import Access, Gate
from smim.serve.errors import add_handlers, responses
from smim.serve.keys import Keys
from smim.serve.metrics import CONTENT_TYPE, Metrics
from smim.serve.middleware import Guard, Observed
from smim.serve.page import add_page
from smim.serve.routes import routers
from smim.serve.service import Service
from smim.serve.shortcut import Shortcut

_DESCRIPTION = """Sentence codes that can be searched and decoded.

With keys, `Authorization: Bearer KEY`; without, sentences cannot be changed."""


def create_app(
    service: Service,
    *,
    keys: Keys | None = None,
    page: bool = True,
    access: Access | None = None,
) -> FastAPI:
    """Create the application of a service; it closes the service when it ends.

    Without `keys` everybody may read and nobody may change the index. Without `access`, only the service's own pages
    may send requests, at loopback or IP addresses.
    """
    access = access or Access()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Prepare the overview now, so that the page's first visitor does not wait.
        ahead = asyncio.create_task(service.overview()) if page else None
        yield
        if ahead is not None:
            await asyncio.gather(ahead, return_exceptions=True)
        await service.close()

    app = FastAPIOffline(
        title="smim",
        version=smim.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to any host that the request names
    )
    metrics = Metrics(service)
    add_handlers(app)
    may_read, may_write = _permission(keys, "read"), _permission(keys, "write")
    of_api = routers(service, may_read, may_write)
    for router in of_api:
        app.include_router(router)

    @app.get("/health/live", tags=["health"])
    async def live() -> schemas.Health:
        """Whether the process answers."""
        return schemas.Health(status="live")

    @app.get("/health/ready", tags=["health"], responses=responses(503))
    async def ready() -> schemas.Health:
        """Whether the service takes requests and its index can be read."""
        await service.describe()
        return schemas.Health(status="ready")

    @app.get(
        "/metrics",
        tags=["health"],
        dependencies=[Depends(may_read)],
        response_class=Response,
        responses=responses(401, 403, 503) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def measured() -> Response:
        """Requests, latencies, batches, queues and the index, for Prometheus."""
        try:
            description = await service.describe()
        except UserError:
            description = None
        return Response(metrics.text(description), media_type=CONTENT_TYPE)

    if page:
        add_page(app)
    all_routes = [*app.routes, *(route for router in of_api for route in router.routes)]
    known = {route.path: route for route in all_routes if isinstance(route, APIRoute)}
    search = "/v1/search"
    app.add_middleware(Shortcut, service=service, keys=keys, path=access.root_path + search, route=known[search])
    app.add_middleware(Guard, prefix=f"{access.root_path}/v1/", max_body=service.limits.max_body)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.add_middleware(Gate, access=access)
    app.add_middleware(Observed, metrics=metrics, routes=set(known))
    return app


def _permission(keys: Keys | None, right: str) -> Any:
    """A dependency that refuses requests without the right."""
    bearer = HTTPBearer(auto_error=False, description="An API key.")

    async def permitted(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if keys is None:
            if right == "write":
                raise HTTPException(
                    403, "changes are off; start the service with --keys FILE, and use a key with write"
                )
            return
        rights = keys.rights_of(given.credentials) if given else None
        if rights is None:
            raise HTTPException(
                401,
                "the key is missing or unknown; send the header Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        if right not in rights:
            raise HTTPException(403, f"this key does not have the right to {right}")

    return permitted
