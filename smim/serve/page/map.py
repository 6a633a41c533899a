"""The page's tab of the map: the index's sentences as points, with the latest search marked among them."""

import asyncio
import json
from importlib.resources import files
from typing import Any

import gradio as gr
import numpy as np

from smim.search.index import comparable
from smim.serve.page import fragments
from smim.serve.page.handlers import QUIET, html, shown
from smim.serve.page.projection import Map, draw
from smim.serve.page.sample import Sampler
from smim.serve.page.search import SearchTab
from smim.serve.service import Service

_SHOWN_LETTERS = 200
_EMPTY: dict[str, Any] = {"points": None, "marks": None, "column": None}
_NO_LABEL = "(none)"
_SCRIPT = files("smim.serve.page").joinpath("map.js").read_text(encoding="utf-8")


class Maps:
    """The map of a service's index: drawn when it is first asked for, and again when a new one is."""

    def __init__(self, service: Service, sampler: Sampler) -> None:
        self.service, self._sampler = service, sampler
        self._lock = asyncio.Lock()
        self._map: Map | None = None

    async def map(self, *, version: int = 0) -> Map:
        """The map, drawn anew if the one there is is older than `version` of the index; one at a time."""
        async with self._lock:
            if self._map is None or self._map.sample.description.version < version:
                sample = await self._sampler.sample()
                self._map = await asyncio.to_thread(draw, sample)
            return self._map

    async def marks(self, map: Map, found: dict[str, Any] | None) -> dict[str, Any] | None:
        """Where a search and its hits lie: the query first, then the hits, each with its sentence."""
        if not found or not len(map.places_N2):
            return None
        backend, ids = self.service.backend, found["ids"]
        if found["like"] is None:
            mean, _ = await self.service.encode([found["text"]])
            about = map.sample.description
            query = comparable(np.array(mean), about.metric, about.dimension)
        else:
            query = await backend.codes([int(found["like"])])
        hits = await self.service.get(ids) if ids else []
        codes = np.concatenate([query, await backend.codes(ids)]) if ids else query
        places = map.place(codes).round(4).tolist()
        return {"places": places, "texts": [_short(found["text"]), *(_short(hit.text) for hit in hits)]}


def map_tab(service: Service, sampler: Sampler, search: SearchTab, tab: gr.Tab) -> None:
    """Lays the tab out in the current Gradio block; the map is drawn when `tab` is first opened."""
    maps = Maps(service, sampler)
    box = gr.Textbox("", label="Sentence to mark, with its nearest", submit_btn="Mark", elem_id="marked")
    colour = gr.Dropdown([], label="Colour by", visible=False, elem_id="colour")
    status = html(
        fragments.note("The map is drawn when it is first opened, which takes some seconds."), elem_id="status"
    )
    plot = gr.HTML(html_template='<div class="smim-map"></div>', js_on_load=_SCRIPT, elem_id="map", **_EMPTY)
    again = gr.Button("Draw the map anew", visible=False, elem_id="again")

    async def show(found: dict[str, Any] | None, column: str | None, *, version: int = 0) -> dict[Any, Any]:
        map = await maps.map(version=version)
        sample, now = map.sample, await service.describe()
        columns = list(sample.choices)
        column = column if column in columns else next(iter(columns), None)
        return {
            status: fragments.note(_about(map, now.version)),
            plot: gr.HTML(
                points=json.dumps(_points(map)),
                marks=json.dumps(await maps.marks(map, found)),
                column=column,
            ),
            colour: gr.Dropdown(choices=columns, value=column, visible=bool(columns)),
            again: gr.Button(visible=now.version != sample.description.version),
        }

    @shown(status)
    async def opened(found: dict[str, Any] | None, column: str | None, text: str) -> dict[Any, Any]:
        return await show(found, column) | {box: text}

    @shown(status)
    async def drawn_again(found: dict[str, Any] | None, column: str | None) -> dict[Any, Any]:
        return await show(found, column, version=(await service.describe()).version)

    @shown(status)
    async def mark(*inputs: Any) -> dict[Any, Any]:
        values = await search.search(*inputs)
        map, now = await maps.map(), await service.describe()
        marks = await maps.marks(map, values[search.found])
        about = fragments.note(_about(map, now.version))
        return values | {status: about, plot: gr.HTML(marks=json.dumps(marks))}

    outputs = [status, plot, colour, again]
    tab.select(opened, [search.found, colour, search.box], [*outputs, box], **QUIET)
    again.click(drawn_again, [search.found, colour], outputs, **QUIET)
    colour.input(lambda column: gr.HTML(column=column), colour, plot, **QUIET)
    box.submit(mark, [box, *search.inputs[1:]], [status, plot, *search.outputs], **QUIET)


def _points(map: Map) -> dict[str, Any]:
    """Places, texts and label columns of the sample's sentences, for `map.js`."""
    found = map.sample.found
    return {
        "places": map.places_N2.round(4).tolist(),
        "texts": [_short(each.text) for each in found],
        "labels": {
            column: [_NO_LABEL if each.labels.get(column) is None else str(each.labels[column]) for each in found]
            for column in map.sample.choices
        },
    }


def _about(map: Map, version: int) -> str:
    sample, num = map.sample, len(map.sample.found)
    of = "all" if num >= sample.description.count else f"{num:,} of {sample.description.count:,}"
    how = {
        "t-SNE": "t-SNE, which keeps near sentences near; far distances say little",
        "PCA": "the codes' first two principal components",
    }[map.method]
    about = (
        f"A point is a sentence: {of} of the index, laid out by {how}. The search and its hits stand at the mean of "
        "the 5 points nearest to them, weighted by nearness."
    )
    if version != sample.description.version:
        about += f" The map is of version {sample.description.version} of the index, which has now version {version}."
    return about


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"
