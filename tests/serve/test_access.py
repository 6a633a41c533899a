"""Who may ask: which names, which pages' origins, behind which proxy; on every path, whatever draws the page."""

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from smim.errors import UserError
from smim.search import Index
from smim.serve.access import Access
from smim.serve.app import create_app
from smim.serve.backend import LocalBackend
from smim.serve.keys import Keys
from smim.serve.service import Service
from tests.serve.test_keys import GOOD, READER, write

PATHS = ["/", "/v1/count", "/page.js", "/docs", "/openapi.json", "/metrics", "/health/live", "/nothing"]
THEIRS = "https://their.example"
Ask = Callable[..., TestClient]


@pytest.fixture(scope="module")
def asking(unchanged: Index, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Makes a client of a service with keys and a page, to which it gives its access."""
    keys = Keys.read(write(tmp_path_factory.mktemp("keys") / "keys.toml", GOOD))

    def make(*, base_url: str = "http://localhost:8000", **access: object) -> TestClient:
        service = Service(unchanged.model, LocalBackend(unchanged.directory, model=unchanged.model))
        app = create_app(service, keys=keys, access=Access(**access))  # type: ignore[arg-type]
        return TestClient(app, base_url=base_url, headers={"Authorization": f"Bearer {READER}"}, follow_redirects=False)

    return make


@pytest.fixture(scope="module")
def client(asking: Ask) -> Iterator[TestClient]:
    with asking() as client:
        yield client


@pytest.fixture(scope="module")
def named(asking: Ask) -> Iterator[TestClient]:
    with asking(origins=[THEIRS], hosts=["search.example"]) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_a_page_gave_to_this_address_is_refused(client: TestClient, path: str) -> None:
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil"):
        for method in ("GET", "POST"):
            response = client.request(method, path, headers={"Host": host})
            assert response.status_code == 421
            assert f"--allowed-host {host.removesuffix(':8000')}" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "a.localhost", "localhost.", "127.0.0.1:80", "[::1]:8000", "192.0.2.7", ""]
)
def test_names_that_no_page_can_give_to_another_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/count", headers={"Host": host}).status_code == 200


def test_names_that_are_allowed_are_answered(named: TestClient, asking: Ask) -> None:
    for host, status in (("search.example", 200), ("Search.Example:8000", 200), ("other.example", 421)):
        assert named.get("/v1/count", headers={"Host": host}).status_code == status
    with asking(hosts=["*"]) as client:
        assert client.get("/v1/count", headers={"Host": "other.example"}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_other_origins_are_refused(client: TestClient, path: str) -> None:
    for origin in (THEIRS, "null", "http://localhost:8001", "https://localhost", "http://localhost:8000.evil.example"):
        for method in ("GET", "POST", "OPTIONS"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            response = client.request(method, path, headers=headers)
            assert response.status_code == 403 and response.json()["error"]["type"] == "forbidden"
            assert not [name for name in response.headers if name.startswith("access-control")]
    # A page that only embeds an answer, as a script or an image, sends no origin.
    for site in ("cross-site", "same-site"):
        assert client.get(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "script"}).status_code == 403


def test_the_pages_own_origin_links_and_programs_may_ask(client: TestClient) -> None:
    for headers in (
        {},
        {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://localhost:8000"},  # behind a proxy with TLS
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},  # a link that was followed
    ):
        for path in ("/v1/count", "/"):
            response = client.get(path, headers=headers)
            assert response.status_code == 200
            assert not [name for name in response.headers if name.startswith("access-control")]


def test_an_origin_that_is_named_may_ask(named: TestClient) -> None:
    headers = {"Origin": THEIRS, "Sec-Fetch-Site": "cross-site"}
    asked = named.options("/v1/search", headers=headers | {"Access-Control-Request-Method": "POST"})
    assert asked.status_code == 200
    for response in (asked, named.get("/v1/count", headers=headers), named.get("/", headers=headers)):
        assert response.headers["Access-Control-Allow-Origin"] == THEIRS
        assert "Access-Control-Allow-Credentials" not in response.headers
    assert named.get("/v1/count", headers={"Origin": "https://other.example"}).status_code == 403


def test_what_a_proxy_says_changes_no_answer(client: TestClient) -> None:
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "192.0.2.1"}
    for path in ("/", "/docs", "/openapi.json", "/v1/index"):
        assert client.get(path, headers=said).text == client.get(path).text


def test_behind_a_proxy_the_prefix_comes_before_the_addresses(asking: Ask) -> None:
    with asking(root_path="/smim") as client:
        for path in ("/openapi.json", "/smim/openapi.json"):  # the proxy took it away, or did not
            assert client.get(path).json()["servers"] == [{"url": "/smim"}]
        docs = client.get("/docs").text
        assert "url: '/smim/openapi.json'" in docs and 'src="/smim/static-offline-docs/swagger-ui-bundle.js"' in docs
        assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
        assert 'src="./page.js"' in client.get("/").text  # beside the page, whatever its prefix
        assert client.get("/v1/count").json() == client.get("/smim/v1/count").json() == {"count": 40}
        assert client.get("/v1/nothing").json()["error"]["type"] == "not_found"
        assert client.get("/page.css").status_code == client.get("/smim/page.css").status_code == 200


def test_the_description_needs_nothing_from_elsewhere(client: TestClient) -> None:
    docs = client.get("/docs").text
    assert "//" not in docs.replace("<!-- `SwaggerUIBundle` is now available on the page -->", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/static-offline-docs/{name}" in docs and client.get(f"/static-offline-docs/{name}").status_code == 200
    assert client.get("/redoc").status_code == 404


@pytest.mark.parametrize("path", ["/v1/count/", "/v1/search/", "/health/live/", "/docs/", "/login/", "/assets"])
def test_no_path_sends_to_another(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404 and "location" not in response.headers


@pytest.mark.parametrize(
    "access, message",
    [
        ({"origins": ["their.example"]}, "is not an origin"),
        ({"origins": ["https://their.example/"]}, "is not an origin"),
        ({"hosts": ["http://a.example"]}, "is not a host"),
        ({"root_path": "smim"}, "must begin with a /"),
        ({"root_path": "/smim/"}, "must begin with a /"),
    ],
)
def test_wrong_names_are_told(access: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Access(**access)  # type: ignore[arg-type]
