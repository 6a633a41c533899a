"""The page's views of walks between sentences, and of what the model writes."""

from pathlib import Path

import pytest

import smim
from smim.search import build_index
from smim.search.query import Line, Query, Sum
from smim.text.corpus import Corpus
from tests.serve.page.sites import Site, Visit, expect, playwright, served

ENDS = ("a bank sold shares", "her brother lost the new law")


def as_shown(texts: list[str]) -> list[str]:
    """Sentences that the model wrote, as the page shows them."""
    return [text if text.strip() else "no words" for text in texts]


def walk(visit: Visit, ends: tuple[str, str]) -> None:
    for name, text in zip(("From", "To"), ends, strict=True):
        visit.page.get_by_label(name, exact=True).fill(text)
    visit.page.get_by_role("button", name="Walk", exact=True).click()


def test_each_stop_of_a_walk_is_a_sentence_with_its_nearest_real_one(visit: Visit, site: Site) -> None:
    page, model, index = visit.page, site.service.model, site.service.backend.index
    visit.view("Between")
    stops = page.locator(".stops li")
    expect(stops).to_have_count(9)  # of an example of the index
    walk(visit, ENDS)
    way = model.interpolate(*ENDS, steps=9)
    assert len(set(way)) > 5
    expect(stops.locator(".sentence")).to_have_text(as_shown(way))
    queries = [Query(line=Line(*ENDS, stop / 8)) for stop in range(9)]
    nearest = [hits[0].text for hits in index.search(queries, 1)]
    expect(stops.locator(".near")).to_have_text([f"≈ {text}" for text in nearest])

    slider, here = page.get_by_label("Stop on the way"), page.locator(".here")
    slider.focus()
    for key, stop in (("End", 8), ("Home", 0), ("ArrowRight", 1)):
        slider.press(key)
        expect(here.locator(".sentence")).to_have_text(as_shown(way)[stop])
        expect(here).to_contain_text(f"Nearest in the index: {nearest[stop]}")
    stops.nth(5).get_by_role("button").click()
    expect(slider).to_have_value("5")
    walk(visit, (ENDS[0], " "))
    expect(page.get_by_role("alert")).to_contain_text("is empty")
    walk(visit, ENDS)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_hit_can_be_walked_to(visit: Visit, site: Site) -> None:
    page = visit.page
    visit.view("Search")
    visit.search(ENDS[0])
    visit.shows(site.texts(ENDS[0], 10))
    target = visit.hits.nth(3)
    text = target.locator(".sentence").inner_text()
    target.get_by_role("button", name="Walk to it").click()
    expect(page.get_by_label("From", exact=True)).to_have_value(ENDS[0])
    expect(page.get_by_label("To", exact=True)).to_have_value(text)
    expect(page.locator(".stops .sentence")).to_have_text(
        as_shown(site.service.model.interpolate(ENDS[0], text, steps=9))
    )


def test_what_the_model_writes_is_the_models_and_new_each_time(visit: Visit, site: Site) -> None:
    page, model = visit.page, site.service.model
    visit.view("Write")
    variants, samples = (page.get_by_role("region", name=name) for name in ("Say it otherwise", "Out of nothing"))
    text = variants.get_by_label("Sentence").input_value()
    for seed in (0, 1):
        expect(variants.locator("li")).to_have_text(as_shown(model.perturb(text, num=5, seed=seed)))
        expect(samples.locator("li")).to_have_text(as_shown(model.sample(5, standard_deviation=0.1, seed=seed)))
        variants.get_by_role("button", name="Others").click()
        samples.get_by_role("button", name="Draw").click()

    total = page.get_by_role("region", name="Add and subtract")
    a, b, c = "a bank sold shares", "a bank sold the new law", "her brother lost the new law"
    for name, each in (("This sentence", a), ("less this one", b), ("plus this one", c)):
        total.get_by_label(name, exact=True).fill(each)
    total.get_by_role("button", name="Calculate").click()
    [decoded] = model.decode(model.arithmetic([a, c], [b])[None])
    assert decoded not in ["", *model.reconstruct([a, b, c])]
    expect(total.locator(".sentence")).to_have_text(decoded)
    hits = site.service.backend.index.search([Query(sum=Sum([a, c], [b]))], 3)[0]
    for place, hit in enumerate(hits):
        expect(total.locator("li").nth(place)).to_contain_text(hit.text)
    total.get_by_label("This sentence", exact=True).fill("")
    total.get_by_role("button", name="Calculate").click()
    expect(total.get_by_role("alert")).to_be_visible()
    expect(variants.get_by_role("alert")).to_have_count(0)

    answer = page.get_by_role("region", name="Answer")
    answer.get_by_label("Question").fill("what did the bank sell ?")
    answer.get_by_role("button", name="Answer").click()
    expect(answer.locator("p.sentence")).to_contain_text(model.answer("what did the bank sell ?") or "no answer")


def test_what_the_model_cannot_do_is_not_shown(
    browser: "playwright.Browser", visit: Visit, meaning_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    for view in ("Between", "Write"):
        visit.view(view)
        expect(visit.page.get_by_label("Literal")).to_have_count(0)
    model = smim.load(meaning_model, device="cpu")
    build_index(model, Corpus.open(tiny_corpus), tmp_path / "meant", model_dir=meaning_model, part="meaning")
    with served(tmp_path / "meant") as site:
        own = Visit(browser, site.url, "between")
        page = own.page
        expect(page.get_by_text("codes of 6 numbers")).to_be_visible()
        walk(own, ENDS)
        steps = page.locator(".stops .sentence")
        free, literal = (model.interpolate(*ENDS, steps=9, literal=each) for each in (0.0, 1.0))
        assert free != literal
        expect(steps).to_have_text(as_shown(free))
        page.get_by_label("Literal").fill("1")
        expect(steps).to_have_text(as_shown(literal))
        own.view("Write")
        expect(page.get_by_role("region", name="Out of nothing").locator("li")).to_have_count(5)
        expect(page.get_by_role("region", name="Answer")).to_have_count(0)
        own.close()


@pytest.mark.parametrize("view", ["between", "write", "map"])
def test_each_view_has_an_address(browser: "playwright.Browser", site: Site, view: str) -> None:
    visit = Visit(browser, site.url, view)
    current = visit.page.locator("nav [aria-current=page]")
    expect(current).to_have_text(view.capitalize())
    visit.page.reload()
    expect(current).to_have_text(view.capitalize())
    visit.close()
