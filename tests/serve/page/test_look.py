"""What holds of every view: no fault that axe finds, no sideways scrolling, and everything by keyboard alone."""

import pytest

from tests.serve.page.sites import PHONE, VIEWS, WIDE, Site, Visit, expect, playwright

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
# What a visitor may open before axe looks.
OPENED = {"search": ["Filter"], "between": [], "write": [], "map": []}
READY = {"search": ".hits li", "between": ".stops li", "write": ".written li", "map": "aside .near li"}


def opened(browser: "playwright.Browser", site: Site, view: str, **options: object) -> Visit:
    visit = Visit(browser, site.url, view, **options)
    expect(visit.page.locator(READY[view]).first).to_be_visible()
    for name in OPENED[view]:
        visit.page.get_by_role("button", name=name, exact=True).click()
    for details in visit.page.locator("details:visible").all():
        details.evaluate("node => { node.open = true; }")
    return visit


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["wide", "phone"])
def test_axe_finds_no_fault(
    browser: "playwright.Browser", site: Site, view: str, scheme: str, size: dict[str, int]
) -> None:
    visit = opened(browser, site, view, color_scheme=scheme, viewport=size)
    visit.page.wait_for_timeout(300)  # until colours have changed
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
    found = axe.Axe().run(visit.page, options=rules)
    assert found.response["violations"] == [], found.generate_report()
    assert len(found.response["passes"]) > 10
    visit.close()


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_it_without_scrolling_sideways(browser: "playwright.Browser", site: Site, view: str) -> None:
    visit = opened(browser, site, view, viewport=PHONE, has_touch=True, is_mobile=True)
    width = PHONE["width"]
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    inside = ".scroll, .meta"  # these scroll themselves
    for control in visit.page.locator("main :is(button, input, select):visible").all():
        if control.evaluate(f"node => Boolean(node.closest('{inside}'))"):
            continue
        box = control.bounding_box()
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= width + 0.5), control
    visit.close()


def test_a_hit_has_two_lines_on_a_phone(browser: "playwright.Browser", site: Site) -> None:
    visit = opened(browser, site, "search", viewport=PHONE)
    visit.search("a bank sold shares")
    visit.shows(site.texts("a bank sold shares", 10))
    assert visit.hits.first.bounding_box()["height"] < 90
    visit.close()


FOCUSED = """() => { const node = document.activeElement, style = getComputedStyle(node);
  const seen = node.matches('.choice input') ? getComputedStyle(node.nextElementSibling) : style;
  const name = node.getAttribute('aria-label') || node.labels?.[0]?.innerText || node.innerText || '';
  return [name.trim(), seen.outlineStyle, seen.outlineWidth]; }"""


def test_the_keyboard_alone_reaches_everything_and_its_focus_is_seen(browser: "playwright.Browser", site: Site) -> None:
    visit = Visit(browser, site.url)
    page = visit.page
    expect(visit.hits).not_to_have_count(0)
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    assert all(style == "solid" and width == "3px" for _, style, width in reached), reached
    names = [name for name, _, _ in reached]
    wanted = ["Search", "Between", "Write", "Map", "What to search for", "Both", "Filter", "More like it", "Walk to it"]
    places = [next(place for place, name in enumerate(names) if name.startswith(each)) for each in wanted]
    assert places == sorted(places)
    while page.evaluate(FOCUSED)[0] != "More like it":
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(visit.status).to_contain_text("More like “")
    visit.close()


def test_controls_do_not_lie_on_one_another(browser: "playwright.Browser", site: Site) -> None:
    for size in (WIDE, PHONE):
        visit = opened(browser, site, "search", viewport=size)
        boxes = [each.bounding_box() for each in visit.page.locator(".toolbar button, .searchbox > *, nav a").all()]
        boxes = [box for box in boxes if box and box["width"] > 1]
        for number, one in enumerate(boxes):
            for other in boxes[number + 1 :]:
                apart = (
                    one["x"] + one["width"] <= other["x"] + 1
                    or other["x"] + other["width"] <= one["x"] + 1
                    or one["y"] + one["height"] <= other["y"] + 4  # the marked link's line
                    or other["y"] + other["height"] <= one["y"] + 4
                )
                assert apart, (one, other)
        visit.close()
