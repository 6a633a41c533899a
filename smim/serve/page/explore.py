"""The page's tabs beyond search: lines between sentences, variants and samples, arithmetic, answers."""

from typing import Any

import gradio as gr
import numpy as np

from smim.search.query import Line, Options, Query, Sum
from smim.serve.page import fragments
from smim.serve.page.handlers import QUIET, html, shown
from smim.serve.page.sample import Sample
from smim.serve.service import Service

_STEPS = 9
_NUM_NEAREST = 5
_NUM_QUESTIONS = 4


# Each tab gives the boxes and blocks that examples of the index are written into.


def interpolate_tab(service: Service) -> list[Any]:
    gr.Markdown("The codes of two sentences are two points: here is what lies on the line between them.")
    with gr.Row():
        first = gr.Textbox("", label="From", elem_id="first", min_width=240)
        second = gr.Textbox("", label="To", elem_id="second", min_width=240)
    at = gr.Slider(0, 1, 0.5, step=0.05, label="Place on the line, 0: the first, 1: the second", elem_id="at")
    literal = _literal_slider(service, service.model.use.literal.interpolate, "literal-line")
    button = gr.Button("Interpolate", variant="primary")
    place, way = html(elem_id="place"), html(elem_id="way")

    @shown(place)
    async def at_place(first: str, second: str, at: float, literal: float) -> dict[Any, Any]:
        query, literal = Query(line=Line(first, second, at)), 1.0 if at in (0, 1) else literal
        return {place: await _nearest(service, query, f"The sentence at {at:g}", literal)}

    @shown(place)
    async def line(first: str, second: str, at: float, literal: float) -> dict[Any, Any]:
        texts = await service.interpolate(first, second, _STEPS, literal=literal)
        steps = [f"{step:.3g}" for step in np.linspace(0, 1, _STEPS)]
        found = await at_place(first, second, at, literal)
        return found | {way: fragments.sentences(texts, caption="The whole way", captions=steps)}

    boxes = [first, second]
    gr.on([first.submit, second.submit, button.click], line, [*boxes, at, literal], [place, way], **QUIET)
    at.change(at_place, [*boxes, at, literal], place, **QUIET)
    return boxes


def variants_tab(service: Service) -> list[Any]:
    use = service.model.use
    with gr.Row():
        with gr.Column(min_width=280):
            gr.Markdown("### Variants of a sentence\nDecoded at places drawn around its code.")
            text = gr.Textbox("", label="Sentence", elem_id="varied")
            scale = gr.Slider(
                0,
                max(100, 2 * use.perturb_scale),
                use.perturb_scale,
                step=1,
                label="Scale",
                info="In standard deviations of q(z|x), 10 in the thesis; raise it where nothing changes",
                elem_id="scale",
            )
            of_variants = _literal_slider(service, use.literal.perturb, "literal-variants")
            num = gr.Slider(1, 20, 5, step=1, label="How many", elem_id="num-variants")
            vary = gr.Button("Vary", variant="primary", elem_id="vary")
            variants = html(elem_id="variants")
        with gr.Column(min_width=280):
            where = "from the model's own prior" if use.sample.prior else "around zero"
            gr.Markdown(f"### Samples\nDecoded at places drawn {where}.")
            deviation = gr.Slider(
                0,
                max(2, 2 * use.sample.standard_deviation),
                use.sample.standard_deviation,
                step=0.05,
                label="Standard deviation",
                info="0.1 in the thesis",
                visible=not use.sample.prior,
                elem_id="deviation",
            )
            of_samples = _literal_slider(service, use.literal.sample, "literal-samples")
            num_samples = gr.Slider(1, 20, 5, step=1, label="How many", elem_id="num-samples")
            draw = gr.Button("Draw", variant="primary", elem_id="draw")
            samples = html(elem_id="samples")
    # Each press draws anew; the seed is shown, and the same in the API gives the same sentences.
    seeds = gr.Number(0, visible=False), gr.Number(0, visible=False)

    @shown(variants)
    async def varied(text: str, scale: float, num: float, literal: float, seed: float) -> dict[Any, Any]:
        texts = await service.perturb(text, int(num), scale, int(seed), literal)
        return {
            variants: fragments.sentences(texts, caption=f"{len(texts)} variants at scale {scale:g}, seed {int(seed)}"),
            seeds[0]: seed + 1,
        }

    @shown(samples)
    async def drawn(deviation: float, num: float, literal: float, seed: float) -> dict[Any, Any]:
        spread = None if use.sample.prior else deviation
        texts = await service.sample(int(num), spread, int(seed), literal=literal)
        of = "of the prior" if spread is None else f"standard deviation {spread:g}"
        drawn = f"{len(texts)} samples, {of}, seed {int(seed)}"
        return {samples: fragments.sentences(texts, caption=drawn), seeds[1]: seed + 1}

    gr.on([text.submit, vary.click], varied, [text, scale, num, of_variants, seeds[0]], [variants, seeds[0]], **QUIET)
    draw.click(drawn, [deviation, num_samples, of_samples, seeds[1]], [samples, seeds[1]], **QUIET)
    return [text]


def arithmetic_tab(service: Service) -> list[Any]:
    gr.Markdown("Codes can be added: the first sentence, less the second, plus the third.")
    with gr.Row():
        first = gr.Textbox("", label="This sentence", elem_id="a", min_width=220)
        less = gr.Textbox("", label="− less this one", elem_id="b", min_width=220)
        plus = gr.Textbox("", label="+ plus this one", elem_id="c", min_width=220)
    literal = _literal_slider(service, service.model.use.literal.arithmetic, "literal-sum")
    button = gr.Button("Calculate", variant="primary")
    result = html(elem_id="sum")

    @shown(result)
    async def calculate(first: str, less: str, plus: str, literal: float) -> dict[Any, Any]:
        return {result: await _nearest(service, Query(sum=Sum([first, plus], [less])), "The sum decoded", literal)}

    boxes = [first, less, plus]
    gr.on([*(box.submit for box in boxes), button.click], calculate, [*boxes, literal], result, **QUIET)
    return boxes


def answer_tab(service: Service) -> list[Any]:
    hint = html(elem_id="answer-hint")
    question = gr.Textbox("", label="Question", submit_btn="Answer", elem_id="question")
    examples = html(elem_id="questions")
    num_words = gr.Slider(1, 30, 10, step=1, label="Unknown words given to fill in", elem_id="num-words")
    answer = html(elem_id="answer")

    @shown(answer)
    async def answered(question: str, num_words: float) -> dict[Any, Any]:
        text = await service.answer(question, int(num_words))
        if not text:
            return {answer: fragments.note("The model wrote no answer; another number of unknown words may help.")}
        return {answer: fragments.decoded(text, caption=f"Answer to: {question.strip()}")}

    @shown(answer)
    async def act(event: gr.EventData, num_words: float) -> dict[Any, Any]:
        return {question: event._data["text"]} | await answered(event._data["text"], num_words)

    question.submit(answered, [question, num_words], answer, **QUIET)
    examples.act(act, num_words, [answer, question], **QUIET)
    return [question, examples, hint]


def questions_of(sample: Sample, corpus: str | None) -> tuple[str, str, str]:
    """A question for the box, others to try, and what may be expected of the answers."""
    questions = sample.questions(_NUM_QUESTIONS)
    hint = "The model completes the question and unknown words after it: it writes an answer, it looks up none."
    if corpus:
        hint += f" It was trained on the corpus {corpus}."
    if not questions:
        hint += (
            " No question that is followed by an answer was seen in the index: unless the model was trained on such "
            "sentences, expect nonsense."
        )
    return questions[0] if questions else "", fragments.examples(questions[1:]), fragments.note(hint)


def _literal_slider(service: Service, value: float, name: str) -> gr.Slider:
    """How literally codes are decoded, shown where the model can do otherwise than word for word."""
    return gr.Slider(
        0,
        1,
        value,
        step=0.05,
        label="Literal",
        info="1: word for word, 0: another sentence of the same meaning",
        visible=service.model.has_meaning_part,
        elem_id=name,
    )


async def _nearest(service: Service, query: Query, caption: str, literal: float) -> str:
    """What a code decodes to, and the sentences nearest to it."""
    [result] = await service.search([query], Options(_NUM_NEAREST, decode=True, literal=literal))
    nearest = fragments.hits(result, caption="The nearest sentences of the index", buttons=False)
    return fragments.decoded(result.decoded or "", caption=caption) + nearest
