"""What of the page is served, to whom, and that it is what its source makes."""

import http.client
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from smim.serve.access import Access
from smim.serve.keys import Keys
from tests.serve.page.sites import MILLISECONDS, Site, Visit, expect, playwright, served

PAGE = Path(str(files("smim.serve.page")))
KEY = "a-key-that-may-read"


def sent(site: Site, method: str, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=MILLISECONDS / 1000)
    with closing(connection):
        connection.request(method, path, b"{}" if method == "POST" else None, headers or {})
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        return response


def test_the_page_is_small_and_is_what_its_source_makes(tmp_path: Path) -> None:
    built = {file.name: file.read_bytes() for file in (PAGE / "static").iterdir()}
    assert sum(map(len, built.values())) < 1_000_000
    if shutil.which("npm") is None:
        pytest.skip("no Node is installed to build the page with")
    copy = tmp_path / "page"
    shutil.copytree(PAGE / "source", copy / "source", ignore=shutil.ignore_patterns("node_modules"))
    install = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=copy / "source", capture_output=True)
    if install.returncode and re.search(rb"EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|ENETUNREACH", install.stderr):
        pytest.skip("npm reaches no registry")
    assert install.returncode == 0, install.stderr.decode()
    made = subprocess.run(["npm", "run", "build"], cwd=copy / "source", capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert {file.name: file.read_bytes() for file in (copy / "static").iterdir()} == built


def test_files_are_sent_once_with_what_a_browser_may_do(site: Site) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/map.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ):
        response = sent(site, "GET", path)
        assert response.status == 200 and response.headers["Content-Type"].startswith(kind)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        again = sent(site, "GET", path, {"If-None-Match": response.headers["ETag"]})
        assert again.status == 304 and not again.body
        assert sent(site, "HEAD", path).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    "path", ["/index.html", "/source/package.json", "/static/page.js", "/..%2f__init__.py", "/page.js/", "/login", "/x"]
)
def test_nothing_else_is_there(site: Site, method: str, path: str) -> None:
    response = sent(site, method, path)
    assert response.status == 404 and json.loads(response.body)["error"]["type"] == "not_found"


def test_the_api_keeps_its_paths(site: Site) -> None:
    assert json.loads(sent(site, "GET", "/health/live").body) == {"status": "live"}
    assert all(sent(site, "GET", path).status == 200 for path in ("/openapi.json", "/docs", "/metrics"))
    assert json.loads(sent(site, "GET", "/v1/nothing").body)["error"]["type"] == "not_found"
    assert sent(site, "DELETE", "/v1/search").status == 405 and sent(site, "POST", "/").status == 405


def test_with_keys_the_page_asks_for_one(browser: "playwright.Browser", directory: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(f'[[keys]]\nname = "reader"\nkey = "{KEY}"\nrights = ["read"]\n')
    (tmp_path / "keys.toml").chmod(0o600)
    with served(directory, Keys.read(tmp_path / "keys.toml")) as site:
        visit = Visit(browser, site.url)
        box, enter = visit.page.get_by_label("API key"), visit.page.get_by_role("button", name="Enter")
        expect(visit.page.get_by_role("heading", name="asks for a key")).to_be_visible()
        assert "news" not in visit.page.content()
        expect(visit.page.get_by_role("alert")).to_have_count(0)
        for wrong in ("a-key-that-is-wrong", "schlüssel"):
            box.fill(wrong)
            enter.click()
            expect(visit.page.get_by_role("alert")).to_be_visible()
        box.fill(KEY)
        box.press("Enter")
        expect(visit.hits).not_to_have_count(0)
        visit.page.reload()  # the tab keeps the key
        expect(visit.hits).not_to_have_count(0)
        visit.close()


def test_a_service_that_went_away_is_told(browser: "playwright.Browser", directory: Path) -> None:
    with served(directory) as site:
        visit = Visit(browser, site.url)
        expect(visit.hits).not_to_have_count(0)
        visit.page.route("**/v1/search", lambda route: route.abort())
        visit.search("a bank sold shares")
        expect(visit.page.get_by_role("alert")).to_contain_text("does not answer")
        assert all("Failed to load" in wrong for wrong in visit.wrongs)
        visit.page.close()


@contextmanager
def behind_a_proxy(site: Site, prefix: str) -> Iterator[str]:
    """The address of a proxy that takes `prefix` away from paths, as nginx with `proxy_pass` and the Host passed on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with closing(http.client.HTTPConnection(urlsplit(site.url).netloc)) as connection:
                connection.request(self.command, self.path.removeprefix(prefix), body, dict(self.headers))
                response = connection.getresponse()
                answer = response.read()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = pass_on

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}{prefix}/"
        proxy.shutdown()


def test_page_and_description_work_behind_a_proxys_prefix_without_the_internet(
    browser: "playwright.Browser", directory: Path
) -> None:
    with served(directory, access=Access(root_path="/smim")) as site, behind_a_proxy(site, "/smim") as url:
        visit = Visit(browser, url)
        visit.search("a bank sold shares")
        visit.shows(site.texts("a bank sold shares", 10))
        visit.view("Map")
        expect(visit.page.locator(".overlay .hit")).to_have_count(10)
        visit.page.get_by_role("link", name="API").click()
        expect(visit.page.locator("#operations-read-search_v1_search_post")).to_be_visible()
        visit.page.locator("#operations-read-count_all_v1_count_get").click()
        visit.page.get_by_role("button", name="Try it out").click()
        visit.page.get_by_role("button", name="Execute").click()
        expect(visit.page.locator(".live-responses-table .microlight").first).to_contain_text('"count": 41')
        visit.close()


def test_a_page_of_another_origin_reads_nothing(browser: "playwright.Browser", site: Site) -> None:
    page = browser.new_page()
    other = site.url.replace("127.0.0.1", "localhost")
    page.goto(f"{other}health/live")
    ask = "url => fetch(url, {credentials: 'include'}).then(answer => answer.status, () => 'refused')"
    for path in ("v1/count", "v1/overview", "page.js", "openapi.json"):
        assert page.evaluate(ask, other + path) != "refused"
        assert page.evaluate(ask, site.url + path) == "refused"
    page.close()


@pytest.mark.parametrize("path", ["/", "/nothing", "/page.js"])
def test_a_body_is_bounded_outside_of_the_api_too(site: Site, path: str) -> None:
    most = site.service.limits.max_body
    for name, value in (("Content-Length", str(10**9)), ("Transfer-Encoding", "chunked")):
        with closing(http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=60)) as connection:
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", "application/json")
            connection.putheader(name, value)
            connection.endheaders()
            if value == "chunked":
                connection.send(b"%x\r\n%s" % (most + 1, b" " * (most + 1)))
            response = connection.getresponse()
            assert response.status == 413 and f"{most} bytes" in json.load(response)["error"]["message"]
