"""The search service: an HTTP API and a page for an index and its model, on one machine or several (Ray Serve)."""

from typing import TYPE_CHECKING, Any

__all__ = ["Client", "ServiceError"]

if TYPE_CHECKING:
    from smim.serve.client import Client, ServiceError


def __getattr__(name: str) -> Any:
    # A service does not need the client; a client does not need FAISS and torch.
    if name in __all__:
        from smim.serve import client

        return getattr(client, name)
    raise AttributeError(f"module 'smim.serve' has no attribute {name!r}")
