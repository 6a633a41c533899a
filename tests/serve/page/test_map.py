"""The page's map: points, marks, walks, its keyboard, and the list beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smim.search import IndexWriter
from smim.search import map as maps
from tests.serve.page.sites import MILLISECONDS, Site, Visit, expect, playwright

TEXT = "a bank sold shares"


@pytest.fixture(scope="module")
def shown(browser: "playwright.Browser", site: Site) -> Iterator[Visit]:
    """The map, laid out as it stays."""
    visit = Visit(browser, site.url, "map")
    expect(visit.page.get_by_text("laid out by t-SNE")).to_be_visible()
    yield visit
    visit.close()


def camera(visit: Visit) -> list[str]:
    """Where the marks are now."""
    return visit.page.locator(".overlay .hit").evaluate_all("nodes => nodes.map(n => n.getAttribute('transform'))")


def until(visit: Visit, holds: Callable[[list[str]], bool]) -> None:
    """Waits until the marks are where they should be; a busy machine draws few frames a second."""
    for _ in range(MILLISECONDS // 50):
        if holds(camera(visit)):
            return
        visit.page.wait_for_timeout(50)
    raise TimeoutError(camera(visit))


def places(visit: Visit) -> list[tuple[float, float]]:
    """The places of the marks in the window, the first hit's first."""
    box = visit.page.locator(".map").bounding_box()
    numbers = [each[len("translate(") : -1].split() for each in camera(visit)]
    return [(box["x"] + float(x), box["y"] + float(y)) for x, y in numbers]


def test_a_plain_map_comes_at_once_and_a_better_one_is_kept_beside_the_index(
    browser: "playwright.Browser", site: Site
) -> None:
    assert not (site.directory / maps.FILE).exists()
    visit = Visit(browser, site.url, "map")
    expect(visit.page.get_by_text("laid out by two principal components")).to_be_visible()
    expect(visit.page.get_by_text("A plain map for now")).to_be_visible()
    expect(visit.page.get_by_text("laid out by t-SNE")).to_be_visible()
    kept = maps.read(site.directory / maps.FILE)
    assert kept is not None and kept.ids_N.tolist() == list(range(41))
    visit.close()


def test_a_search_is_marked_with_its_hits(shown: Visit, site: Site) -> None:
    page = shown.page
    box = page.get_by_label("What to mark on the map")
    box.fill(TEXT)
    box.press("Enter")
    hits = site.texts(TEXT, 10)
    expect(page.locator("aside h2", has_text="Hits")).to_be_visible()
    expect(page.locator("aside ol.near li")).to_have_text([f"{text}Walk from it" for text in hits])
    expect(page.locator(".overlay .hit")).to_have_count(10)
    expect(page.locator(".overlay .query")).to_have_count(1)
    expect(page.locator(".overlay .number")).to_have_text([str(number) for number in range(1, 11)])
    box.fill(" ")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("is empty")
    box.fill(TEXT)
    box.press("Enter")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_colours_and_names_are_those_of_a_label(shown: Visit) -> None:
    legend = shown.page.locator(".legend li")
    expect(legend).to_have_count(4)
    assert {text.strip() for text in legend.all_inner_texts()} == {"money", "home", "politics", "<b>money</b>"}
    expect(shown.page.locator(".overlay .name")).to_have_count(3)  # of a label with several points


def test_pointer_and_keyboard_move_zoom_and_read(shown: Visit, site: Site) -> None:
    page = shown.page
    before = camera(shown)
    plot = page.get_by_role("application")
    plot.focus()
    for key in ("ArrowRight", "ArrowUp", "+", "-"):
        last = camera(shown)
        plot.press(key)
        until(shown, lambda now, last=last: now != last)
    plot.press("0")
    until(shown, lambda now: now == before)
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.wheel(0, -300)
    until(shown, lambda now: now != before)
    page.wait_for_timeout(300)  # the wheel's animation ends
    plot.press("0")
    until(shown, lambda now: now == before)

    first = site.texts(TEXT, 1)[0]
    x, y = places(shown)[0]
    page.mouse.move(x, y)
    expect(page.locator(".tip")).to_have_text(first)
    page.mouse.click(x, y)
    expect(page.locator("aside .here .sentence")).to_have_text(first)


def test_a_drag_from_point_to_point_walks_between_them(shown: Visit, site: Site) -> None:
    page, model = shown.page, site.service.model
    page.get_by_role("radio", name="Walk").check(force=True)
    hits = site.texts(TEXT, 10)
    starts = places(shown)
    # Two that are apart.
    far = max(
        range(10), key=lambda number: abs(starts[number][0] - starts[0][0]) + abs(starts[number][1] - starts[0][1])
    )
    page.mouse.move(*starts[0])
    page.mouse.down()
    page.mouse.move(starts[far][0] - 20, starts[far][1] - 20, steps=4)
    page.mouse.move(*starts[far], steps=4)
    page.mouse.up()
    expect(page.get_by_role("heading", name="Between", exact=True)).to_be_visible()
    way = page.locator("aside ol.near").first.locator("li")
    ends = hits[0], hits[far]
    wanted = [text if text.strip() else "no words" for text in model.interpolate(*ends, steps=9)]
    expect(way).to_have_text(wanted)
    expect(page.locator(".overlay .stop")).to_have_count(9)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".overlay .stop")).to_have_count(0)

    # The same from the list, by buttons.
    rows = page.locator("aside ol.near li")
    rows.nth(0).get_by_role("button", name="Walk from it").press("Enter")
    rows.nth(2).get_by_role("button", name="Walk to it").press("Enter")
    expect(page.locator(".overlay .stop")).to_have_count(9)
    page.get_by_role("button", name="Open this walk").click()
    expect(page.get_by_label("To", exact=True)).to_have_value(hits[2])


def test_what_was_deleted_leaves_the_map_and_what_was_added_is_marked(
    browser: "playwright.Browser", site: Site
) -> None:
    with IndexWriter(site.directory, model=site.service.model) as writer:
        [id] = writer.add(["a bank sold a bank"])
        writer.delete([0])
    visit = Visit(browser, site.url, "map")
    expect(visit.page.get_by_text("40 of 41")).to_be_visible()
    box = visit.page.get_by_label("What to mark on the map")
    box.fill("a bank sold a bank")
    box.press("Enter")
    expect(visit.page.locator("aside ol.near li").first).to_contain_text("a bank sold a bank")
    with IndexWriter(site.directory, model=site.service.model) as writer:
        writer.delete([id])
    visit.close()


def test_without_webgl_the_list_is_there(browser: "playwright.Browser", site: Site) -> None:
    visit = Visit(browser, "about:blank")
    visit.url = site.url
    visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    visit.page.goto(f"{site.url}#map")
    expect(visit.page.get_by_role("alert").filter(has_text="no WebGL")).to_be_visible()
    listed = visit.page.locator("aside ul.near li")
    expect(listed).to_have_count(12)
    visit.close()


def test_a_damaged_map_is_made_anew(browser: "playwright.Browser", site: Site, directory: Path) -> None:
    (directory / maps.FILE).write_bytes(b"no map")
    with IndexWriter(site.directory, model=site.service.model) as writer:  # another version, which is looked at anew
        writer.delete([1])
    visit = Visit(browser, site.url, "map")
    expect(visit.page.get_by_text("laid out by t-SNE")).to_be_visible()
    assert maps.read(directory / maps.FILE) is not None
    visit.close()
