"""The page of the search service: searches, explores the codes and maps the index, in a browser.

It reads only, and needs nothing from outside of the server: neither fonts nor scripts.
"""

from importlib.resources import files
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from smim.serve.keys import Keys
from smim.serve.page import fragments
from smim.serve.page.closed import Blocks, Page
from smim.serve.page.explore import answer_tab, arithmetic_tab, interpolate_tab, questions_of, variants_tab
from smim.serve.page.handlers import QUIET, shown
from smim.serve.page.map import map_tab
from smim.serve.page.sample import Sampler
from smim.serve.page.search import choices_of, search_tab
from smim.serve.service import Service

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
_NUM_EXAMPLES = 5
_EXPLORED = {
    "Interpolate": interpolate_tab,
    "Variants": variants_tab,
    "Arithmetic": arithmetic_tab,
}
# Gradio keeps 140 KB for each visitor that names itself anew, of by default 10,000.
_MOST_VISITORS = 1_000
# The tab of the browser is named after the index too.
_TITLE = """
const name = () => {
  const title = element.querySelector('h1'), size = element.querySelector('li');
  if (title) document.title = `${title.textContent}: ${size.textContent}`;
};
watch('value', name);
name();
"""


def mount_page(app: FastAPI, service: Service, *, keys: Keys | None = None) -> FastAPI:
    """Puts the page at `/`; with `keys`, for those who know one with the right to read.

    It takes the paths that no route has: call it when all routes are there.
    """
    gr.mount_gradio_app(
        app,
        _blocks(service),
        path="/",
        auth=None if keys is None else lambda user, key: keys.may(key, "read"),
        auth_message="Any user name; the password is an API key.",
        theme=gr.themes.Default(font=_FONTS, font_mono=_MONO, primary_hue="blue", secondary_hue="blue").set(
            # Gradio's own grey is too light to read.
            body_text_color_subdued="*neutral_500",
            body_text_color_subdued_dark="*neutral_400",
            block_info_text_color="*neutral_500",
            block_info_text_color_dark="*neutral_400",
        ),
        css=files("smim.serve.page").joinpath("page.css").read_text(encoding="utf-8"),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
    )
    page = app.router.routes.pop()
    assert isinstance(page, Mount)
    app.router.routes.append(Page(page))
    return app


def _blocks(service: Service) -> gr.Blocks:
    sampler, corpus = Sampler(service), service.model.config["training"].get("corpus")
    with Blocks(title="Sentence search", analytics_enabled=False) as blocks:
        blocks.state_session_capacity = _MOST_VISITORS
        header = gr.HTML(js_on_load=_TITLE, elem_id="header")
        with gr.Tabs():
            with gr.Tab("Search"):
                search = search_tab(service)
            explored = []
            for title, tab_of in _EXPLORED.items():
                with gr.Tab(title):
                    explored.append(tab_of(service))
            line, variants, arithmetic = explored
            answer = []
            if service.model.use.answers:
                with gr.Tab("Answer"):
                    answer = answer_tab(service)
            with gr.Tab("Map") as tab:
                map_tab(service, sampler, search, tab)

        sentences = [*line, *variants]
        searched = shown(search.results)(search.search)

        @shown(search.results)
        async def filled_in(*inputs: Any) -> dict[Any, Any]:
            sample = await sampler.sample()
            examples = sample.examples(_NUM_EXAMPLES)
            found: dict[Any, Any] = {header: fragments.header(service.backend.directory, sample.description, corpus)}
            found |= dict(zip(search.choices, choices_of(sample), strict=True))
            if answer:
                found |= dict(zip(answer, questions_of(sample, corpus), strict=True))
            if not examples:
                return found
            found[search.examples] = fragments.examples(examples[1:])
            found |= {box: examples[i % len(examples)] for i, box in enumerate(sentences)}
            found |= dict(zip(arithmetic, sample.sum(), strict=True))
            return found | await searched(examples[0], *inputs[1:])

        @shown(search.results)
        async def picked(event: gr.EventData, *inputs: Any) -> dict[Any, Any]:
            return await search.search(event._data["text"], *inputs[1:])

        filled = [header, search.examples, *search.choices, *sentences, *arithmetic, *answer]
        blocks.load(filled_in, search.inputs, [*filled, *search.outputs], **QUIET)
        search.examples.act(picked, search.inputs, search.outputs, **QUIET)
    return blocks
