"""The page's view of searches."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from smim.generation import SentenceModel
from smim.search import index_texts
from smim.search.manifest import Manifest
from smim.search.words import FILES as WORDS
from tests.search.test_filters import LARGE
from tests.serve.page.sites import MARKUP, Site, Visit, expect, playwright, served

TEXT = "a bank sold shares"


def test_first_sight_says_what_this_is_and_shows_the_hits_of_an_example(visit: Visit, site: Site) -> None:
    page = visit.page
    expect(page.get_by_role("heading", level=1)).to_contain_text("read what lies between them")
    expect(page.get_by_text("41 sentences").first).to_be_visible()
    expect(page).to_have_title("news: 41 sentences")
    example = page.get_by_label("What to search for").input_value()
    visit.shows(site.texts(example, 10))
    assert visit.hits.first.bounding_box()["y"] < 600, "results above the fold"
    chip = page.get_by_role("group", name="Try").get_by_role("button").nth(1)
    other = chip.inner_text()
    chip.click()
    expect(page.get_by_label("What to search for")).to_have_value(other)
    visit.shows(site.texts(other, 10))


def test_enter_searches_pages_turn_and_more_like_it_leaves_the_sentence_out(visit: Visit, site: Site) -> None:
    page = visit.page
    visit.search(TEXT)
    expect(visit.status).to_contain_text(f"Nearest to “{TEXT}”: 1 to 10 of 41")
    found = site.texts(TEXT, 20)
    visit.shows(found[:10])
    assert page.url.endswith("#search?q=a+bank+sold+shares")
    previous, following = (page.get_by_role("button", name=name) for name in ("Previous", "Next"))
    expect(previous).to_be_disabled()
    following.click()
    visit.shows(found[10:])
    expect(visit.hits.first.locator(".rank")).to_have_text("11")
    previous.click()
    visit.shows(found[:10])

    visit.hits.nth(2).get_by_role("button", name="More like it").click()
    expect(visit.status).to_contain_text(f"More like “{found[2]}”")
    [id] = [hit.id for hit in site.service.backend.index.search([found[2]], 1)[0]]
    like = site.service.backend.index.more_like([id], 10, mode="hybrid", fold="words")[0]
    visit.shows([hit.text for hit in like])
    assert found[2] not in [hit.text for hit in like]


def test_codes_words_or_both_are_compared_and_the_words_in_common_are_marked(visit: Visit, site: Site) -> None:
    page = visit.page
    visit.search("the law and her brother")
    for name, mode in (("Words", "sparse"), ("Codes", "dense"), ("Both", "hybrid")):
        page.get_by_role("radio", name=name).check(force=True)
        hits = site.service.backend.index.search(["the law and her brother"], 10, mode=mode, fold="words")[0]
        visit.shows([hit.text for hit in hits])
        if mode == "sparse":
            marked = visit.hits.first.locator("mark")
            assert set(marked.all_inner_texts()) == set(hits[0].words) != set()
    shown = visit.hits.first.locator(".similarity")
    expect(shown).to_contain_text(f"{hits[0].similarity:.0%}".replace("%", " %"))
    bar = visit.hits.first.locator(".bar")
    filled = bar.locator("span").bounding_box()["width"] / bar.bounding_box()["width"]
    assert abs(filled - hits[0].similarity) < 0.03


def test_filters_are_clicked_and_their_json_can_be_written(visit: Visit, site: Site) -> None:
    page, index = visit.page, site.service.backend.index
    visit.search(TEXT)
    page.get_by_role("button", name="Filter", exact=True).click()
    panel = page.get_by_role("region", name="Filter")
    panel.get_by_role("group", name="Values of topic").get_by_role("button", name="politics").click()
    expect(visit.status).to_contain_text(f"of {index.count({'topic': 'politics'})} sentences that pass the filter")
    visit.shows(site.texts(TEXT, 10, where={"topic": "politics"}))
    panel.get_by_label("Column").select_option("text")
    panel.get_by_label("Operator").select_option("contains")
    panel.get_by_label("Value").fill("sold")
    panel.get_by_role("button", name="Add").click()
    both = {"$and": [{"topic": "politics"}, {"text": {"$contains": "sold"}}]}
    visit.shows(site.texts(TEXT, 10, where=both))
    panel.get_by_text("JSON", exact=True).click()
    written = panel.get_by_label("The filter, as the API takes it")
    assert json.loads(written.input_value()) == both

    problem = panel.get_by_role("alert")
    panel.get_by_label("Value").fill(" ")
    panel.get_by_role("button", name="Add").click()
    expect(problem).to_have_text("Give a value to compare with.")
    for wrong, told in (
        ('{"topic"', "not JSON"),
        ('{"topix": 1}', "did you mean 'topic'"),
        ("[1]", "not JSON"),
        ('{"topix": 1}', "did you mean 'topic'"),
        ('{"topic": ' + "9" * 5_000 + "}", "a number in it is too large"),
    ):
        written.fill(wrong)
        written.press("Enter")
        expect(problem).to_contain_text(told)
    for name, where in LARGE.items():
        written.fill(json.dumps(where))
        written.press("Enter")
        expect(problem).to_contain_text("at most 20,000 parts" if name in ("not", "values") else "at most")
    assert panel.get_by_label("Value").get_attribute("aria-describedby") == problem.get_attribute("id")
    written.fill('{"topic": "money"}')
    written.press("Enter")
    visit.shows(site.texts(TEXT, 10, where={"topic": "money"}))
    page.get_by_role("button", name="Remove the filter").click()
    page.get_by_role("button", name="Remove topic is politics").click()
    page.get_by_role("button", name="Remove text contains sold").click()
    visit.shows(site.texts(TEXT, 10))

    visit.hits.first.locator(".chip").click()  # a label of a hit
    topic = site.service.backend.index.search([TEXT], 1, mode="hybrid")[0][0].labels["topic"]
    visit.shows(site.texts(TEXT, 10, where={"topic": topic}))
    page.get_by_role("button", name=f"Remove topic is {topic}").click()
    page.get_by_role("button", name="Filter", exact=True).click()


def test_options_change_how_many_what_is_left_out_and_what_is_shown_beside(visit: Visit, site: Site) -> None:
    page, index = visit.page, site.service.backend.index
    visit.search(TEXT)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Hits a page").fill("3")
    visit.shows(site.texts(TEXT, 3))
    page.get_by_label("Least similarity").fill("70")
    visit.shows(site.texts(TEXT, 3, least_similarity=0.7))
    page.get_by_label("Least similarity").fill("0")
    page.get_by_label("Ids and numbers").check()
    hit = index.search([TEXT], 1, mode="hybrid", fold="words")[0][0]
    expect(visit.hits.first).to_contain_text(f"id {hit.id}")
    expect(visit.hits.first).to_contain_text(f"codes {hit.code_similarity:.2f}")
    page.get_by_label("What codes decode to").check()
    hits = index.search([TEXT], 3, mode="hybrid", fold="words", reconstruct=True)[0]
    written = visit.page.locator(".reconstruction")
    expect(written).to_have_text([f"decodes as “{hit.reconstruction or 'no words'}”" for hit in hits])
    [decoded] = site.service.model.reconstruct([TEXT])
    expect(page.locator(".decoded")).to_contain_text(decoded or "no words")
    for name in ("Ids and numbers", "What codes decode to"):
        page.get_by_label(name).uncheck()
    page.get_by_label("Hits a page").fill("10")
    page.get_by_role("button", name="Filter", exact=True).click()


def test_a_wrong_search_is_told_beside_its_box(visit: Visit) -> None:
    box = visit.page.get_by_label("What to search for")
    problem = visit.page.locator(f"#{box.get_attribute('aria-describedby')}")
    for text, told in (("   ", "is empty; give at least one word"), ("a" * 20_000, "at most 10000 are allowed")):
        visit.search(text)
        expect(problem).to_contain_text(told)
        assert "Traceback" not in visit.page.content()
    visit.search(TEXT)
    expect(problem).to_be_hidden()


def test_markup_is_shown_as_it_is_written(visit: Visit) -> None:
    page = visit.page
    visit.search(MARKUP)
    expect(visit.hits.first.locator(".sentence")).to_have_text(MARKUP)
    expect(visit.hits.first.locator(".chip")).to_contain_text("<b>money</b>")
    visit.hits.first.locator(".chip").click()
    visit.shows([MARKUP])
    page.get_by_role("button", name="Remove topic is <b>money</b>").click()
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_text("JSON", exact=True).click()
    page.get_by_label("The filter, as the API takes it").fill('{"<img src=x onerror=alert(1)>": 1}')
    page.get_by_label("The filter, as the API takes it").press("Enter")
    panel = page.get_by_role("region", name="Filter")
    expect(panel.get_by_role("alert")).to_contain_text("There is no column '<img src=x onerror=alert(1)>'")
    assert page.locator("img, .hits b, .hits a").count() == 0
    page.get_by_role("button", name="Remove the filter").click()


def test_an_index_without_words_is_searched_by_codes(
    browser: "playwright.Browser", directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(directory, tmp_path / "old")
    manifest = Manifest.read(tmp_path / "old")
    kept = [{name: info.files[name] for name in info.files.keys() - set(WORDS)} for info in manifest.segments]
    segments = [replace(info, files=files) for info, files in zip(manifest.segments, kept, strict=True)]
    manifest.changed(segments=segments).write(tmp_path / "old")  # as an older version wrote it
    with served(tmp_path / "old") as site:
        visit = Visit(browser, site.url)
        visit.search(TEXT)
        visit.shows(site.texts(TEXT, 10, mode="dense", fold="none"))
        expect(visit.page.get_by_text("smim index compact")).to_be_visible()
        expect(visit.page.get_by_role("radio")).to_have_count(0)
        visit.view("Map")
        expect(visit.page.locator(".overlay .hit")).to_have_count(10)
        visit.close()


def test_rows_of_several_sentences_are_counted_as_texts(
    browser: "playwright.Browser", model: SentenceModel, asking_model: Path, tmp_path: Path
) -> None:
    texts = [f"{TEXT}\n\na bank lost"] * 3
    index_texts(model, texts, tmp_path / "texts", model_dir=asking_model, split="sentences")
    with served(tmp_path / "texts") as site:
        visit = Visit(browser, site.url)
        expect(visit.page).to_have_title("texts: 3 texts")
        expect(visit.page.get_by_text("3 texts").first).to_be_visible()
        visit.search(TEXT)
        expect(visit.status).to_contain_text("of 3 texts")
        visit.close()
