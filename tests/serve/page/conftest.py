"""A site over the tiny index, a browser, and a page that a file's tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from smim.generation import SentenceModel
from smim.search import IndexWriter, build_index
from smim.text.corpus import Corpus
from tests.serve.page.sites import MARKUP, Site, Visit, expect, playwright, served


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
def browser() -> Iterator["playwright.Browser"]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed to open the page in")
    # The map needs WebGL, which a machine without a GPU computes.
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def first_visit(browser: "playwright.Browser", site: Site) -> Iterator[Visit]:
    """One page for the tests of a file; each brings it into the state that it needs."""
    visit = Visit(browser, site.url)
    expect(visit.hits).not_to_have_count(0)
    yield visit
    visit.page.close()


@pytest.fixture
def visit(first_visit: Visit) -> Iterator[Visit]:
    yield first_visit
    wrongs, first_visit.wrongs = first_visit.wrongs, []
    assert wrongs == []
