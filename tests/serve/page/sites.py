"""A service on loopback, and a real browser that opens its page."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from smim.serve.access import Access
from smim.serve.app import create_app
from smim.serve.backend import LocalBackend
from smim.serve.keys import Keys
from smim.serve.run import Server
from smim.serve.service import Service

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect

MARKUP = "the bank sold <img src=x onerror=alert(1)> **bold** [x](javascript:1) $x$ ${1+1} {{7*7}}"
MILLISECONDS = 60_000  # of Playwright's, on a busy machine
VIEWS = ("search", "between", "write", "map")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}
# A page's default timeout is not that of what is expected of it, which is five seconds.
expect.set_options(timeout=MILLISECONDS)


@dataclass(frozen=True)
class Site:
    url: str
    service: Service
    directory: Path

    def texts(self, text: str, k: int, **options: object) -> list[str]:
        """The hits of a search as the page asks for them, unless `options` say otherwise."""
        how: dict[str, object] = {"mode": "hybrid", "fold": "words"} | options
        return [hit.text for hit in self.service.backend.index.search([text], k, **how)[0]]


@contextmanager
def served(directory: Path, keys: Keys | None = None, access: Access | None = None) -> Iterator[Site]:
    backend = LocalBackend(directory)
    service = Service(backend.model, backend)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(create_app(service, keys=keys, access=access), service.limits, "loopback")
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server does not start"
            time.sleep(0.02)
        yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}/", service, directory)
    finally:
        server.should_exit = True
        thread.join(MILLISECONDS / 1000)


class Visit:
    """A page that was opened, and what it did that it should not have done: `wrongs`."""

    def __init__(self, browser: "playwright.Browser", url: str, view: str = "", **options: object) -> None:
        self.page, self.url = browser.new_page(**({"viewport": WIDE} | options)), url
        self.wrongs: list[str] = []
        self.page.set_default_timeout(MILLISECONDS)
        self.page.route("**/*", self._only_loopback)
        self.page.on("dialog", lambda dialog: (self.wrongs.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.wrongs.append(f"error: {error}"))
        self.page.on("console", self._told)
        self.page.goto(f"{url}#{view}" if view else url)
        self.hits = self.page.locator(".hits li")
        self.status = self.page.get_by_role("status")

    def _told(self, message: "playwright.ConsoleMessage") -> None:
        # A browser notes each answer of an error's status, which the page tells in its own words.
        if message.type == "error" and "status of 4" not in message.text:
            self.wrongs.append(f"console: {message.text}")

    def _only_loopback(self, route: "playwright.Route") -> None:
        if route.request.url.startswith((self.url, "data:", "blob:")):
            route.continue_()
        else:
            self.wrongs.append(f"asked {route.request.url}")
            route.abort()

    def view(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=name, exact=True).click()

    def search(self, text: str) -> None:
        box = self.page.get_by_label("What to search for")
        box.fill(text)
        box.press("Enter")

    def shows(self, texts: list[str]) -> None:
        """Waits until these are the hits."""
        expect(self.hits.locator(".sentence")).to_have_text(texts)

    def close(self) -> None:
        self.page.close()
        assert self.wrongs == []
