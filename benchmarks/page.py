"""Measure how soon the page shows hits in a headless browser, and the time per frame of its map.

    python benchmarks/page.py INDEX

Starts `smim serve` over the index, whose map must exist (`smim index map INDEX`), and prints:

- seconds from opening the address to the first hits, in a browser with an empty cache
- milliseconds from Enter to the new hits
- milliseconds of script per frame (from Chromium's trace: animation frames and the events between them) and frames per
  second, while the map is dragged and zoomed

Without a GPU, the CPU draws the frames, which takes most of their time.
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import common
from smim.search import open_index

_ROUNDS, _SEARCHES, _MOVES = 7, 20, 60
_SCRIPT = ("FireAnimationFrame", "EventDispatch", "TimerFire", "FunctionCall")


def page(index: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Measure the first hits, searches, and frames of the map."""
    texts = [row.text for row in open_index(index).get(list(range(0, 10 * _SEARCHES, 10)))]
    with (
        tempfile.TemporaryDirectory() as folder,
        common.served(index, Path(folder) / "log") as (port, _),
        chromium() as b,
    ):
        address = f"http://127.0.0.1:{port}/"
        told("first hits, s", [first_hits(b, address) for _ in range(_ROUNDS)])
        told("search, ms", searches(b, address, texts))
        for name, values in frames(b, address, Path(folder) / "trace.json").items():
            told(name, values)


@contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


def opened(browser: Browser) -> Page:
    opened = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    opened.set_default_timeout(120_000)
    return opened


def first_hits(browser: Browser, address: str) -> float:
    page = opened(browser)
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".hits li")
    seconds = time.perf_counter() - started
    page.context.close()
    return seconds


def searches(browser: Browser, address: str, texts: list[str]) -> list[float]:
    """Measure searches in the page, from the key's event to the change of the list."""
    page = opened(browser)
    page.goto(address)
    page.wait_for_selector(".hits li")
    taken = [
        page.evaluate(
            """text => new Promise(done => {
              const box = document.querySelector('.searchbox input'), caption = document.querySelector('.caption');
              box.value = text;
              box.dispatchEvent(new Event('input', {bubbles: true}));
              new MutationObserver((_, watch) => {
                if (!caption.textContent.includes(text.slice(0, 60))) return;
                watch.disconnect();
                done(performance.now() - begun);
              }).observe(document.querySelector('main'), {subtree: true, childList: true, characterData: true});
              const begun = performance.now();
              requestAnimationFrame(() => box.form.requestSubmit());
            })""",
            text,
        )
        for text in texts
    ]
    page.context.close()
    return taken


def frames(browser: Browser, address: str, trace: Path) -> dict[str, list[float]]:
    page = opened(browser)
    page.goto(f"{address}#map")
    page.wait_for_selector(".overlay .hit")
    page.wait_for_timeout(3000)
    box = page.locator(".map").bounding_box()
    assert box is not None
    x, y = box["x"] + 5, box["y"] + 5  # there is no point
    page.mouse.move(x, y)
    browser.start_tracing(page=page, path=str(trace), categories=["devtools.timeline"])
    started = time.perf_counter()
    page.mouse.down()
    for step in range(_MOVES):
        page.mouse.move(x + 4 * step, y + 2 * step)
        page.wait_for_timeout(16)
    page.mouse.up()
    for _ in range(10):
        page.mouse.wheel(0, -120)
        page.wait_for_timeout(100)
    seconds = time.perf_counter() - started
    browser.stop_tracing()
    page.context.close()
    per_frame = script_of(json.loads(trace.read_text())["traceEvents"])
    return {"script a frame, ms": per_frame, "frames a second": [len(per_frame) / seconds]}


def script_of(events: list[dict[str, Any]]) -> list[float]:
    """Compute the milliseconds of script per animation frame and the events before it, on the busiest thread."""
    ours = [event for event in events if event["name"] in _SCRIPT and event.get("ph") == "X"]
    threads = [(event["pid"], event["tid"]) for event in ours if event["name"] == "FireAnimationFrame"]
    thread = max(set(threads), key=threads.count)
    ours = sorted((e for e in ours if (e["pid"], e["tid"]) == thread), key=lambda e: (e["ts"], -e["dur"]))
    found, waiting, end = [], 0.0, 0.0
    for event in ours:
        if event["ts"] < end:  # inside of an event that is counted
            continue
        end = event["ts"] + event["dur"]
        waiting += event["dur"] / 1000
        if event["name"] == "FireAnimationFrame":
            found.append(waiting)
            waiting = 0.0
    return found


def told(name: str, values: list[float]) -> None:
    low, high = np.quantile(values, [0.05, 0.95])
    print(f"{name:24} median {statistics.median(values):8.2f}   5 to 95 %: {low:.2f} to {high:.2f}   of {len(values)}")


if __name__ == "__main__":
    common.main(__doc__, page)
