"""Access control by origin, host name and proxy.

A browser sends requests for any page that its user opens, and a page may give this address a name of its own (DNS
rebinding). So each request is checked before anything else reads it.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from smim.errors import refuse_if
from smim.serve.errors import error_response


@dataclass(frozen=True)
class Access:
    """Rules for who may send requests to a service.

    `origins`: origins whose pages may send requests besides the service's own, such as `https://their.example`; `*`:
    all. `hosts`: allowed host names besides loopback names and all IP addresses, which no page can map to another
    machine; `*`: all. `root_path`: the prefix that a proxy removes from paths, such as `/smim`.

    Raises `UserError` for an invalid origin, host or prefix.
    """

    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()
    root_path: str = ""

    def __post_init__(self) -> None:
        origin, host = r"\*|[a-z]+://[^/\s]+", r"[^/\s]+"
        refuse_if({
            **{f"{each!r} is not an origin; write its scheme and host, such as https://their.example":
                not re.fullmatch(origin, each) for each in self.origins},
            **{f"{each!r} is not a host; write a name, such as search.example":
                not re.fullmatch(host, each) for each in self.hosts},
            f"the root path is {self.root_path!r}; it must begin with a / and not end with one, as in /smim":
                not re.fullmatch(r"(/[\w.~-]+)*", self.root_path),
        })  # fmt: skip

    def takes_host(self, host: str) -> bool:
        """Whether a request for this host is allowed; requests without a host name do not come from a browser."""
        name = _name(host)
        if name in ("", "localhost", *map(_name, self.hosts)) or name.endswith(".localhost") or "*" in self.hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def takes_origin(self, headers: Headers, *, visit: bool) -> bool:
        """Whether the requesting page is ours or allowed. `visit`: the browser shows the response, not the page.

        Browsers name the origin except for embedded content. For that they send whether the site is the same.
        """
        origin = headers.get("origin")
        if origin is not None:
            own = origin.lower().partition("://")[2] == headers.get("host", "").lower()
            return own or "*" in self.origins or origin in self.origins
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none") or visit


def _name(host: str) -> str:
    """The host name without the port and a trailing dot."""
    return re.sub(r":\d*$", "", host.lower()).removesuffix(".")


class Gate:
    """Refuses requests that `access` does not allow, and adds the proxy's prefix to paths."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, root = Headers(scope=scope), self.access.root_path
        host = headers.get("host", "")
        visit = scope["method"] == "GET" and headers.get("sec-fetch-dest") == "document"
        refused = None
        if not self.access.takes_host(host):
            refused = 421, f"this service does not have the name {host}; start it with --allowed-host {_name(host)}"
        elif not self.access.takes_origin(headers, visit=visit):
            refused = (
                403,
                "pages of another origin may not send requests; start the service with --cors and their origin",
            )
        if refused:
            # The body stays unread, so the connection cannot be reused.
            await error_response(*refused, {"Connection": "close"})(scope, receive, send)
            return
        scope["root_path"] = root
        if not scope["path"].startswith(f"{root}/"):
            scope["path"] = root + scope["path"]

        await self.app(scope, receive, send)
