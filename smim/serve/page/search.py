"""The page's tab of searches: a sentence, filters, the hits page by page, and more like any of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from smim.errors import UserError
from smim.search.filters import Where
from smim.search.query import Options, Query
from smim.serve.limits import LARGEST_DEPTH, too_deep
from smim.serve.page import fragments
from smim.serve.page.handlers import QUIET, Handler, html, shown
from smim.serve.page.sample import Sample
from smim.serve.service import Service

# Label columns of few values that get choices of their own; the filter language reaches the others.
NUM_CHOICES = 6
_CAPTIONED = 80  # letters of the sentence
_DECODED, _RECONSTRUCTED, _SCORED = "the query decoded", "each hit decoded", "scores"


@dataclass(frozen=True)
class SearchTab:
    """What the rest of the page fills in or reads.

    `found` is not shown: the sentence or id that was asked for, and the ids of the hits. `search` takes the values of
    `inputs` and returns those of `outputs` by component, or raises what is the user's mistake.
    """

    box: gr.Textbox
    examples: gr.HTML
    choices: list[gr.CheckboxGroup]
    results: gr.HTML
    found: gr.JSON
    search: Handler
    inputs: list[Any]
    outputs: list[Any]


def search_tab(service: Service) -> SearchTab:
    """Lays the tab out in the current Gradio block."""
    box = gr.Textbox(
        "", label="Sentence", placeholder="A sentence to find others like", submit_btn="Search", elem_id="sentence"
    )
    examples = html(elem_id="examples")
    with gr.Accordion("Filter and options", open=False, elem_id="options"):
        choices = [gr.CheckboxGroup([], label="", visible=False) for _ in range(NUM_CHOICES)]
        condition = gr.Textbox(
            "",
            label="Filter, as of the API",
            info='{"stars": {"$gte": 4}} or {"text": {"$contains": "pizza"}}, then Enter',
            elem_id="where",
        )
        with gr.Row():
            most = min(50, service.limits.max_k, service.limits.max_batch)
            size = gr.Slider(1, most, min(10, most), step=1, label="Hits a page", elem_id="k", min_width=200)
            farthest = gr.Textbox("", label="Maximum distance, then Enter", elem_id="farthest", min_width=200)
        optional = [_DECODED, _RECONSTRUCTED] + ([] if service.model.deterministic else [_SCORED])
        extras = gr.CheckboxGroup(
            optional, label="Show too", info="Scores are log q(z|query) of each hit's code, in nats", elem_id="show"
        )
    results = html(fragments.note("The nearest sentences will be listed here."), elem_id="results")
    like_now, offset_now = gr.Number(None, visible=False), gr.Number(0, visible=False)
    found = gr.JSON(None, visible=False)

    async def run(text: str, like: float | None, offset: float, *options: Any) -> dict[Any, Any]:
        body, ids = await _search(service, text, None if like is None else int(like), int(offset), *options)
        return {
            results: body,
            found: {"text": text, "like": like, "ids": ids},
            box: text,
            like_now: like,
            offset_now: offset,
        }

    async def search(text: str, like: float | None, offset: float, *options: Any) -> dict[Any, Any]:
        return await run(text, None, 0, *options)

    @shown(results)
    async def with_other_options(text: str, like: float | None, offset: float, *options: Any) -> dict[Any, Any]:
        return await run(text, like, 0, *options)

    @shown(results)
    async def act(event: gr.EventData, text: str, like: float | None, offset: float, *options: Any) -> dict[Any, Any]:
        clicked = event._data
        if "offset" in clicked:
            return await run(text, like, int(clicked["offset"]), *options)
        [sentence] = await service.get([int(clicked["like"])])
        return await run(sentence.text, sentence.id, 0, *options)

    inputs = [box, like_now, offset_now, size, condition, farthest, extras, *choices]
    outputs = [results, found, box, like_now, offset_now]
    changes = [extras.input, size.release, condition.submit, farthest.submit, *(each.input for each in choices)]
    box.submit(shown(results)(search), inputs, outputs, **QUIET)
    gr.on(changes, with_other_options, inputs, outputs, **QUIET)
    results.act(act, inputs, outputs, **QUIET)
    return SearchTab(box, examples, choices, results, found, search, inputs, outputs)


def choices_of(sample: Sample) -> list[Any]:
    """What each of the page's choices of a label offers, as updates."""
    offered = [
        gr.CheckboxGroup(
            label=column, choices=[(str(value), json.dumps([column, value])) for value in values], visible=True
        )
        for column, values in list(sample.choices.items())[:NUM_CHOICES]
    ]
    return [*offered, *[gr.CheckboxGroup(visible=False)] * (NUM_CHOICES - len(offered))]


async def _search(
    service: Service,
    text: str,
    like: int | None,
    offset: int,
    k: float,
    condition: str,
    farthest: str,
    extras: list[str],
    *choices: list[str],
) -> tuple[str, list[int]]:
    """The hits as HTML, and their ids."""
    max_distance = _as_distance(farthest)
    where = _combined(_as_filter(condition), _chosen(choices))
    passing = await service.count(where)
    num = min(int(k), max(passing, 1))
    options = Options(
        k=num,
        offset=offset,
        where=where,
        max_distance=max_distance,
        decode=_DECODED in extras,
        reconstruct=_RECONSTRUCTED in extras,
        score=_SCORED in extras,
    )
    [result] = await service.search([Query(text=text) if like is None else Query(id=like)], options)
    end = offset + len(result.hits)
    of = f"{passing:,} sentences" + (" that pass the filter" if where else "")
    asked = text if len(text) <= _CAPTIONED else text[: _CAPTIONED - 1] + "…"
    what = f"Nearest to “{asked}”" if like is None else f"More like #{like}, “{asked}”"
    caption = f"{what}: {offset + 1} to {end} of {of}" if result.hits else f"{what}: none of {of}"
    if max_distance is not None:
        caption += f", at a distance of at most {max_distance:g}"
    further = len(result.hits) == num and end < passing and end + num <= service.limits.max_k
    parts = [
        fragments.hits(result, caption=caption, offset=offset),
        fragments.pages(previous=max(0, offset - num) if offset else None, following=end if further else None),
    ]
    if result.decoded is not None:
        parts.insert(0, fragments.decoded(result.decoded, caption="The query, decoded from its code"))
    return "".join(parts), [hit.id for hit in result.hits]


def _chosen(choices: Sequence[list[str]]) -> Where | None:
    """The filter that the choices make; each is a column and a value in JSON."""
    columns: dict[str, list[Any]] = {}
    for chosen in choices:
        for column, value in map(json.loads, chosen or []):
            columns.setdefault(column, []).append(value)
    return columns or None


def _as_distance(text: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise UserError(f"the maximum distance is {text!r}; write a number, or nothing for any distance") from None


def _as_filter(text: str) -> Where | None:
    if not text.strip():
        return None
    if too_deep(text.encode("utf-8", "replace")):
        raise UserError(f"the filter is nested more than {LARGEST_DEPTH} deep")
    try:
        where = json.loads(text)
    except ValueError as error:
        raise UserError(
            f'the filter is not JSON ({error}); write for example {{"stars": {{"$gte": 4}}}}, names in double quotes'
        ) from None
    if not isinstance(where, Mapping):
        raise UserError('the filter is a JSON object, for example {"stars": {"$gte": 4}}')
    return where


def _combined(*conditions: Where | None) -> Where | None:
    parts = [condition for condition in conditions if condition]
    return {"$and": parts} if len(parts) > 1 else (parts[0] if parts else None)
