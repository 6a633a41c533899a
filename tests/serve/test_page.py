"""The page, in a real browser, of a real server on loopback over the tiny index."""

import http.client
import http.server
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import smim
from smim.generation import SentenceModel
from smim.search import IndexWriter, build_index
from smim.serve.access import Access
from smim.serve.app import create_app
from smim.serve.backend import LocalBackend
from smim.serve.keys import Keys
from smim.serve.run import Server
from smim.serve.service import Service
from smim.text.corpus import Corpus
from tests.search.test_filters import LARGE

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect

MARKUP = "the bank sold <img src=x onerror=alert(1)> **bold** [x](javascript:1) $x$ ${1+1} {{7*7}}"
SECONDS = 60_000  # of Playwright's, in ms, on a busy machine
# A page's default timeout is not that of what is expected of it, which is five seconds.
expect.set_options(timeout=SECONDS)
KEY = "a-key-that-may-read"


@dataclass(frozen=True)
class Site:
    url: str
    service: Service
    directory: Path


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
        thread.join(SECONDS / 1000)


@pytest.fixture(scope="module")
def directory(
    model: SentenceModel, asking_model: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Forty sentences with a label `topic`, ids 0 to 39, and one of markup, 40."""
    path = tmp_path_factory.mktemp("page") / "news"
    build_index(model, corpus, path, model_dir=asking_model)
    with IndexWriter(path, model=model) as writer:
        writer.add([MARKUP], labels={"topic": ["<b>money</b>"]})
    return path


@pytest.fixture(scope="module")
def site(directory: Path) -> Iterator[Site]:
    with served(directory) as site:
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed to open the page in")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page that was opened, and what it did that it should not have done: `wrongs`."""

    def __init__(self, page: playwright.Page, url: str) -> None:
        self.page, self.url = page, url
        self.wrongs: list[str] = []
        page.set_default_timeout(SECONDS)
        page.route("**/*", self._only_loopback)
        page.on("dialog", lambda dialog: (self.wrongs.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.wrongs.append(f"error: {error}"))
        page.goto(url)
        self.hits = page.locator("#results .smim-hits li")
        expect(self.hits).not_to_have_count(0, timeout=SECONDS)

    def _only_loopback(self, route: playwright.Route) -> None:
        if route.request.url.startswith((self.url, "data:", "blob:")):
            route.continue_()
        else:
            self.wrongs.append(f"asked {route.request.url}")
            route.abort()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def search(self, text: str) -> None:
        box = self.page.locator("#sentence textarea")
        box.fill(text)
        box.press("Enter")

    def shows(self, texts: list[str]) -> None:
        """Waits until these are the hits."""
        expect(self.hits.locator(".smim-sentence")).to_have_text(texts, timeout=SECONDS)

    def caption(self, text: str) -> None:
        """Waits until the results' caption says `text`."""
        expect(self.page.locator("#results .smim-caption").last).to_contain_text(text, timeout=SECONDS)

    def options(self) -> None:
        self.page.get_by_role("button", name="Filter and options").click()


@pytest.fixture(scope="module")
def first_visit(browser: playwright.Browser, site: Site) -> Iterator[Visit]:
    """One page for the tests of what a tab does; each brings the page into the state that it needs."""
    visit = Visit(browser.new_page(viewport={"width": 1100, "height": 900}), site.url)
    yield visit
    visit.page.close()


@pytest.fixture
def visit(first_visit: Visit) -> Iterator[Visit]:
    yield first_visit
    wrongs, first_visit.wrongs = first_visit.wrongs, []
    assert wrongs == []


def settle(page: playwright.Page) -> None:
    """Returns when nothing has moved for a fifth of a second."""
    boxes = "JSON.stringify([...document.querySelectorAll('*')].map(e => e.getBoundingClientRect()))"
    still = f"() => {{ const before = window.boxes; return (window.boxes = {boxes}) === before; }}"
    page.wait_for_function(still, polling=200)


def nearest(site: Site, text: str, k: int, **options) -> list[str]:
    index = site.service.backend.index
    return [hit.text for hit in index.search([text], k, **options)[0]]


def as_shown(texts: list[str]) -> list[str]:
    """Sentences that the model wrote, as the page shows them."""
    return [text if text.strip() else "(no words)" for text in texts]


def test_first_sight_shows_the_index_and_the_hits_of_an_example(visit: Visit, site: Site) -> None:
    expect(visit.page.locator("h1")).to_have_text("news")
    expect(visit.page.locator("#header")).to_contain_text("41 sentences")
    expect(visit.page).to_have_title("news: 41 sentences")
    example = visit.page.locator("#sentence textarea").input_value()
    visit.shows(nearest(site, example, 10))
    button = visit.page.locator("#examples button").nth(1)
    other = button.inner_text()
    button.click()
    expect(visit.page.locator("#sentence textarea")).to_have_value(other)
    expect(visit.hits.first).to_contain_text(other)


def test_enter_searches_pages_turn_and_more_like_this_leaves_the_sentence_out(visit: Visit, site: Site) -> None:
    visit.search("a bank sold shares")
    visit.caption("Nearest to “a bank sold shares”: 1 to 10 of 41")
    found = nearest(site, "a bank sold shares", 20)
    visit.shows(found[:10])
    visit.page.get_by_role("button", name="Farther").click()
    visit.caption("11 to 20 of 41")
    visit.shows(found[10:])
    assert visit.hits.first.locator(".smim-rank").inner_text() == "11"
    visit.page.get_by_role("button", name="Nearer").click()
    visit.caption("1 to 10 of 41")

    liked = visit.hits.nth(2).locator("button")
    id = int(liked.get_attribute("data-like"))
    liked.click()
    visit.caption(f"More like #{id}")
    visit.shows([hit.text for hit in site.service.backend.index.more_like([id], 10)[0]])


def test_filters_distance_and_what_else_is_shown_change_the_hits(visit: Visit, site: Site) -> None:
    page, text = visit.page, "a bank sold shares"
    visit.search(text)
    visit.shows(nearest(site, text, 10))
    visit.options()
    page.get_by_label("politics").check()
    visit.caption("that pass the filter")
    visit.shows(nearest(site, text, 10, where={"topic": "politics"}))
    box = page.locator("#where textarea")
    box.fill('{"text": {"$contains": "sold"}}')
    box.press("Enter")
    both = {"$and": [{"topic": "politics"}, {"text": {"$contains": "sold"}}]}
    visit.caption(f"of {site.service.backend.index.count(both)} sentences that pass")
    visit.shows(nearest(site, text, 10, where=both))
    for wrong, told in (
        ('{"topic"', "not JSON"),
        ('{"topix": 1}', "did you mean 'topic'"),
        ("[1]", "JSON object"),
        ("[" * 3_000, "nested more than 400 deep"),
        ("9" * 5_000, "not JSON"),
    ):
        box.fill(wrong)
        box.press("Enter")
        expect(page.locator("#results [role=alert]")).to_contain_text(told)
    box.fill("")
    page.get_by_label("politics").uncheck()
    visit.caption("of 41 sentences")

    farthest = page.get_by_label("Maximum distance")
    distances = [hit.distance for hit in site.service.backend.index.search([text], 10)[0]]
    farthest.fill(f"{(distances[2] + distances[3]) / 2}")
    farthest.press("Enter")
    visit.caption("1 to 3 of 41")
    farthest.fill("near")
    farthest.press("Enter")
    expect(page.locator("#results [role=alert]")).to_contain_text("write a number")
    farthest.fill("")
    farthest.press("Enter")
    visit.caption("1 to 10 of 41")

    for name in ("the query decoded", "each hit decoded", "scores"):
        page.get_by_label(name, exact=True).check()
    hits = site.service.backend.index.search([text], 10, reconstruct=True, score=True)[0]
    expect(visit.hits.first).to_contain_text(f"log q {hits[0].score:,.1f} nats")
    reconstructions = [f"decodes as {hit.reconstruction}" for hit in hits]
    assert len(set(reconstructions)) > 5
    expect(visit.hits.locator(".smim-written")).to_have_text(reconstructions)
    [decoded] = site.service.model.reconstruct([text])
    expect(page.locator("#results .smim-decoded .smim-sentence")).to_have_text(decoded)
    for name in ("the query decoded", "each hit decoded", "scores"):
        page.get_by_label(name, exact=True).uncheck()
    visit.options()


def test_an_empty_text_is_told_as_a_plain_message(visit: Visit) -> None:
    visit.tab("Search")
    visit.search("   ")
    expect(visit.page.locator("#results [role=alert]")).to_contain_text("is empty; give at least one word")
    assert "Traceback" not in visit.page.content()


def test_the_slider_decodes_places_between_two_sentences(visit: Visit, site: Site) -> None:
    page, model = visit.page, site.service.model
    visit.tab("Interpolate")
    ends = ["a bank sold shares", "her brother lost the new law"]
    for box, text in zip(("#first", "#second"), ends, strict=True):
        page.locator(f"{box} textarea").fill(text)
    page.get_by_role("button", name="Interpolate").click()
    steps = page.locator("#way li span:last-child")
    way = model.interpolate(*ends, steps=9)
    assert len(set(way)) > 5
    expect(steps).to_have_text(as_shown(way))
    slider = page.locator("#at input[type=range]")
    slider.focus()
    slider.press("End")
    expect(page.locator("#place")).to_contain_text("The sentence at 1")
    expect(page.locator("#place .smim-hits li .smim-sentence").first).to_have_text(nearest(site, ends[1], 1)[0])
    slider.press("Home")
    expect(page.locator("#place")).to_contain_text("The sentence at 0")
    expect(page.locator("#place .smim-hits li .smim-sentence").first).to_have_text(nearest(site, ends[0], 1)[0])


def test_variants_and_samples_are_the_models_and_new_each_time(visit: Visit, site: Site) -> None:
    page, model = visit.page, site.service.model
    visit.tab("Variants")
    page.locator("#varied textarea").fill("a bank sold shares")
    assert "" in model.sample(5, standard_deviation=0.1, seed=1)
    for seed in (0, 1):
        page.locator("#vary").click()
        expect(page.locator("#variants")).to_contain_text(f"5 variants at scale 10, seed {seed}")
        wanted = model.perturb("a bank sold shares", num=5, seed=seed)
        expect(page.locator("#variants li")).to_have_text(as_shown(wanted))
        page.locator("#draw").click()
        expect(page.locator("#samples")).to_contain_text(f"standard deviation 0.1, seed {seed}")
        wanted = model.sample(5, standard_deviation=0.1, seed=seed)
        expect(page.locator("#samples li")).to_have_text(as_shown(wanted))


def test_what_the_model_cannot_do_is_not_offered(visit: Visit) -> None:
    expect(visit.page.get_by_role("tab", name="Answer")).to_have_count(1)
    for tab, box, sliders in (("Interpolate", "first", ["line"]), ("Variants", "varied", ["variants", "samples"])):
        visit.tab(tab)
        expect(visit.page.locator(f"#{box}")).to_be_visible()
        for slider in sliders:
            expect(visit.page.locator(f"#literal-{slider}")).not_to_be_visible()


def test_a_model_with_a_meaning_part_has_sliders_for_it_and_no_tab_of_answers(
    browser: playwright.Browser, meaning_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    model = smim.load(meaning_model, device="cpu")
    build_index(model, Corpus.open(tiny_corpus), tmp_path / "meant", model_dir=meaning_model, part="meaning")
    ends = ["a bank sold shares", "her brother lost the new law"]
    with served(tmp_path / "meant") as site:
        visit = Visit(browser.new_page(viewport={"width": 1100, "height": 900}), site.url)
        page = visit.page
        expect(page.locator("#header")).to_contain_text("6 dimensions")
        expect(page.get_by_role("tab", name="Answer")).to_have_count(0)
        visit.tab("Interpolate")
        for box, text in zip(("#first", "#second"), ends, strict=True):
            page.locator(f"{box} textarea").fill(text)
        button, steps = page.get_by_role("button", name="Interpolate"), page.locator("#way li span:last-child")
        button.click()
        free, literal = (model.interpolate(*ends, steps=9, literal=each) for each in (0.0, 1.0))
        assert free != literal
        expect(steps).to_have_text(as_shown(free))
        slider = page.locator("#literal-line input[type=range]")
        slider.focus()
        slider.press("End")
        button.click()
        expect(steps).to_have_text(as_shown(literal))
        visit.tab("Map")
        expect(page.locator(".smim-point").first).to_be_visible()
        assert visit.wrongs == []
        page.close()


def test_arithmetic_decodes_the_sum_and_finds_its_nearest(visit: Visit, site: Site) -> None:
    page, model = visit.page, site.service.model
    visit.tab("Arithmetic")
    a, b, c = "a bank sold shares", "a bank sold the new law", "her brother lost the new law"
    for box, text in zip("abc", (a, b, c), strict=True):
        page.locator(f"#{box} textarea").fill(text)
    page.get_by_role("button", name="Calculate").click()
    code = model.arithmetic([a, c], [b])[None]
    [decoded] = model.decode(code)
    assert decoded not in ["", *model.reconstruct([a, b, c])]
    hits = site.service.backend.index.search(code, 5)[0]
    shown = page.locator("#sum .smim-hits .smim-sentence")
    expect(shown).to_have_text([hit.text for hit in hits])
    expect(page.locator("#sum .smim-decoded .smim-sentence")).to_have_text(decoded)


def test_a_question_is_answered_and_a_hint_says_what_to_expect(visit: Visit, site: Site) -> None:
    page = visit.page
    visit.tab("Answer")
    expect(page.locator("#answer-hint")).to_contain_text("expect nonsense")
    page.locator("#question textarea").fill("a bank sold ?")
    page.locator("#question textarea").press("Enter")
    answer = site.service.model.answer("a bank sold ?")
    assert len(answer.split()) > 1
    expect(page.locator("#answer")).to_contain_text(answer)


def test_the_map_shows_the_sentences_the_search_and_its_hits(visit: Visit, site: Site) -> None:
    page = visit.page
    visit.tab("Search")
    visit.search("a bank sold shares")
    visit.caption("Nearest to “a bank sold shares”: 1 to 10 of 41")
    visit.tab("Map")
    expect(page.locator(".smim-point")).to_have_count(41)
    expect(page.locator(".smim-hit")).to_have_count(10)
    expect(page.locator(".smim-query")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("all of the index, laid out by")
    expect(page.locator(".smim-legend")).to_contain_text("<b>money</b>")
    page.locator("#marked textarea").fill(MARKUP)
    page.locator("#marked textarea").press("Enter")
    expect(page.get_by_role("img", name=f"hits of “{MARKUP}” marked")).to_be_visible()
    page.locator(".smim-query").hover()
    expect(page.locator(".smim-tip")).to_contain_text(MARKUP)
    page.locator("#marked textarea").fill(" ")
    page.locator("#marked textarea").press("Enter")
    expect(page.locator("#status [role=alert]")).to_contain_text("is empty")


def test_the_map_is_drawn_anew_when_the_index_changed(visit: Visit, site: Site) -> None:
    visit.tab("Map")
    expect(visit.page.locator(".smim-point")).to_have_count(41)
    with IndexWriter(site.directory, model=site.service.model) as writer:
        [id] = writer.add(["a bank lost shares"], labels={"topic": ["money"]})
    try:
        visit.tab("Search")
        visit.tab("Map")
        expect(visit.page.locator("#status")).to_contain_text("which has now version")
        visit.page.locator("#again").click()
        expect(visit.page.locator(".smim-point")).to_have_count(42)
        expect(visit.page.locator("#again")).not_to_be_visible()
    finally:
        with IndexWriter(site.directory, model=site.service.model) as writer:
            writer.delete([id])


def test_a_filter_of_too_many_parts_is_refused_and_the_service_goes_on(visit: Visit, site: Site) -> None:
    page = visit.page
    visit.tab("Search")
    visit.search("the company sold shares")
    visit.options()
    box, problem = page.locator("#where textarea"), page.locator("#results [role=alert]")
    for name, where in LARGE.items():
        box.fill(json.dumps(where))
        box.press("Enter")
        expect(problem).to_contain_text("at most 20,000 parts" if name in ("not", "values") else "at most")
    box.fill("[" * 3000)
    box.press("Enter")
    expect(problem).to_contain_text("nested more than 400 deep")
    box.fill(json.dumps({"$or": [{"topic": "politics"}] * 9000}))
    box.press("Enter")
    visit.shows(nearest(site, "the company sold shares", 10, where={"topic": "politics"}))
    box.fill("")
    box.press("Enter")
    visit.options()


def test_markup_is_shown_as_it_is_written(visit: Visit) -> None:
    page = visit.page
    visit.tab("Search")
    visit.search(MARKUP)
    expect(visit.hits.first.locator(".smim-sentence")).to_have_text(MARKUP)
    expect(visit.hits.first).to_contain_text("topic: <b>money</b>")
    visit.hits.first.locator("button").click()
    expect(page.locator("#sentence textarea")).to_have_value(MARKUP)
    visit.options()
    page.locator("#where textarea").fill('{"<img src=x onerror=alert(1)> **b**": 1}')
    page.locator("#where textarea").press("Enter")
    expect(page.locator("#results [role=alert]")).to_contain_text("no column '<img src=x onerror=alert(1)> **b**'")
    page.locator("#where textarea").fill("")
    visit.options()
    visit.tab("Answer")
    page.locator("#question textarea").fill(f"{MARKUP} ?")
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#answer")).to_contain_text(re.compile("Answer to: the bank sold <img|wrote no answer"))
    assert page.locator("img[src=x], .prose b, .prose strong, .prose a, .katex").count() == 0


def test_a_phone_shows_every_tab_without_scrolling_sideways(browser: playwright.Browser, site: Site) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 700}, has_touch=True, is_mobile=True)
    visit = Visit(page, site.url)
    for name in ("Search", "Interpolate", "Variants", "Arithmetic", "Answer", "Map"):
        settle(page)
        tab = page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():
            page.locator(".overflow-menu > button").click()
            tab = page.locator(".overflow-dropdown button", has_text=name)
        tab.click()
        if name == "Map":
            expect(page.locator(".smim-point").first).to_be_visible()
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 375, name
        for control in page.locator("main :is(button, input, textarea):visible").all():
            box = control.bounding_box()
            assert box is None or box["height"] <= 1 or (box["x"] >= 0 and box["x"] + box["width"] <= 375.5), (
                name,
                control,
            )
    assert visit.wrongs == []
    page.close()


def test_the_keyboard_alone_reaches_everything_and_its_focus_is_seen(browser: playwright.Browser, site: Site) -> None:
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    visit = Visit(page, site.url)
    focus = """() => { const a = document.activeElement, s = getComputedStyle(a);
      return [a.getAttribute('aria-label') || a.innerText || a.placeholder || '', s.outlineStyle, s.outlineWidth]; }"""
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focus))
    assert all(style == "solid" and width == "3px" for _, style, width in reached)
    names = [name.strip() for name, _, _ in reached]
    wanted = ["Search", "A sentence to find others like", "Filter and options", "More like this"]
    places = [next(i for i, name in enumerate(names) if name.startswith(each)) for each in wanted]
    assert places == sorted(places)

    # "More like this" of the first hit has the focus in a few presses back; Enter presses it.
    for _ in reached:
        if page.evaluate(focus)[0].startswith("More like this"):
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    visit.caption("More like #")
    unlabelled = "document.querySelectorAll('input:not([type=hidden]), textarea').values()"
    assert (
        page.evaluate(
            f"[...{unlabelled}].filter(e => !e.labels?.length && !e.getAttribute('aria-label')).map(e => e.outerHTML)"
        )
        == []
    )
    page.close()


def test_with_keys_the_page_asks_for_one(browser: playwright.Browser, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(f'[[keys]]\nname = "reader"\nkey = "{KEY}"\nrights = ["read"]\n')
    (tmp_path / "keys.toml").chmod(0o600)
    with served(directory, Keys.read(tmp_path / "keys.toml")) as site:
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(site.url)
        page.get_by_label("username").fill("anyone")
        page.get_by_label("password").fill("a-key-that-is-wrong")
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_text("Incorrect")).to_be_visible()
        assert page.request.post(f"{site.url}gradio_api/run/predict", data={"data": []}).status == 401
        page.get_by_label("username").fill("anyone")
        page.get_by_label("password").fill(KEY)
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#results .smim-hits li").first).to_be_visible()
        page.close()


def test_the_api_keeps_its_paths_and_nothing_can_be_uploaded(browser: playwright.Browser, site: Site) -> None:
    request = browser.new_context().request
    assert request.get(f"{site.url}health/live").json() == {"status": "live"}
    assert "openapi" in request.get(f"{site.url}openapi.json").json()
    assert request.get(f"{site.url}docs").ok and request.get(f"{site.url}metrics").ok
    wrong = request.get(f"{site.url}v1/nothing")
    assert wrong.status == 404 and wrong.json()["error"]["type"] == "not_found"
    assert request.delete(f"{site.url}v1/search").status == 405
    file = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"}
    assert request.post(f"{site.url}gradio_api/upload", multipart={"files": file}).status == 404


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        *("config", "login_check", "logout", "monitoring", "robots.txt", "manifest.json", "pwa_icon", "svelte/x"),
        *(f"gradio_api/{name}" for name in ("deep_link", "upload", "info", "queue/join", "queue/data", "heartbeat/x")),
        *(
            f"gradio_api/{name}"
            for name in ("file=page.css", "proxy=http://a.example", "component_server", "api/predict")
        ),
        *(f"gradio_api/{name}" for name in ("stream/x", "startup-events", "token", "mcp", "runs", "call/x", "reset")),
        *("gradio_api/run/predict/", "gradio_api/run/other", "login/", "theme.css/", "assets"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(site: Site, method: str, path: str) -> None:
    status, body = sent(site, method, f"/{path}", b"{}" if method == "POST" else b"")
    assert status == 404 and json.loads(body)["error"]["type"] == "not_found"


def sent(site: Site, method: str, path: str, body: bytes, content_type: str = "application/json") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=SECONDS / 1000)) as connection:
        connection.request(method, path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()


def test_crafted_calls_are_no_faults_and_the_log_has_nothing_of_them(
    site: Site, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "zanzibar"
    values: list[object] = [
        None,
        [],
        [secret],
        [secret] * 9,
        [secret, None, 0, 10, "[" * 3_000, "", [secret]] + [[]] * 6,
    ]
    bodies: list[object] = [
        {"data": data, "fn_index": number, "event_data": event, "session_hash": session}
        for number in (None, -1, 0, 1, 2, 3, 6, 10, 10**30, secret)
        for data in values
        for event, session in ((None, None), ({"like": secret}, secret), ({"offset": [secret]}, None))
    ]
    raw = [json.dumps(body).encode() for body in [*bodies, [], secret, {"data": {}, "batched": True}]]
    raw += [b"[" * 90, b'{"data": ["' + secret.encode(), b"\xff\x00", b'{"data": [' + b"9" * 5_000 + b"]}"]
    caplog.set_level("WARNING")  # as `log_to_stderr` sets it
    caplog.set_level("WARNING", "uvicorn")
    caplog.set_level("INFO", "smim.serve")
    statuses = {sent(site, "POST", "/gradio_api/run/predict", body)[0] for body in raw}
    form = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n' + secret.encode()
    statuses |= {sent(site, "POST", "/login", form, kind)[0] for kind in ("multipart/form-data; boundary=x", secret)}
    paths = [
        "/assets/%00",
        "/static/../../x",
        "/assets/%2e%2e/%2e%2e/x",
        f"/?deep_link={secret}",
        "/assets/" + "x" * 5_000,
    ]
    statuses |= {sent(site, "GET", path, b"")[0] for path in paths}
    assert all(status < 500 for status in statuses) and 422 in statuses and 200 in statuses
    told = repr([record.__dict__ for record in caplog.records])
    assert "'fault'" in told
    assert secret not in told and "Traceback" not in told
    assert "".join(capfd.readouterr()) == ""


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
    browser: playwright.Browser, directory: Path
) -> None:
    with served(directory, access=Access(root_path="/smim")) as site, behind_a_proxy(site, "/smim") as url:
        visit = Visit(browser.new_page(), url)
        visit.search("a bank sold shares")
        visit.shows(nearest(site, "a bank sold shares", 10))
        visit.page.goto(f"{url}docs")
        expect(visit.page.locator("#operations-read-search_v1_search_post")).to_be_visible()
        visit.page.locator("#operations-read-count_all_v1_count_get").click()
        visit.page.get_by_role("button", name="Try it out").click()
        visit.page.get_by_role("button", name="Execute").click()
        expect(visit.page.locator(".live-responses-table .microlight").first).to_contain_text('"count": 41')
        assert visit.wrongs == []
        visit.page.close()


def test_a_page_of_another_origin_reads_nothing(browser: playwright.Browser, site: Site) -> None:
    page = browser.new_page()
    other = site.url.replace("127.0.0.1", "localhost")
    page.goto(f"{other}health/live")
    ask = "url => fetch(url, {credentials: 'include'}).then(answer => answer.status, () => 'refused')"
    for path in ("v1/count", "gradio_api/run/predict", "theme.css", "openapi.json"):
        assert page.evaluate(ask, other + path) != "refused"
        assert page.evaluate(ask, site.url + path) == "refused"
    page.close()


@pytest.mark.parametrize("path", ["/gradio_api/run/predict", "/nothing", "/login"])
def test_a_body_is_bounded_outside_of_the_api_too(site: Site, path: str) -> None:
    most = site.service.limits.max_body
    for name, value in (("Content-Length", str(10**9)), ("Transfer-Encoding", "chunked")):
        with closing(http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=SECONDS / 1000)) as connection:
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", "application/json")
            connection.putheader(name, value)
            connection.endheaders()
            if value == "chunked":
                connection.send(b"%x\r\n%s" % (most + 1, b" " * (most + 1)))
            response = connection.getresponse()
            assert response.status == 413 and f"{most} bytes" in json.load(response)["error"]["message"]
