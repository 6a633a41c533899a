"""The page's lists and messages as HTML. Every text from a user or a corpus is escaped here, so that it is shown as is.

A button's `data-` attributes reach the page's handlers as the fields of its event, see `ON_CLICK`.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from smim.search.query import Description, Hit, SearchResult
from smim.serve.errors import shortened

# Gradio's HTML block calls the handlers of `act` with what the clicked button's data attributes say.
ON_CLICK = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button) trigger('act', {...button.dataset});
});
"""


def header(index: Path, about: Description, corpus: str | None) -> str:
    """The index's name and size, and what its model was trained on, if that is known."""
    facts = [f"{about.count:,} sentences", f"{about.dimension} dimensions", f"{about.metric} distance"]
    facts += [f"model of the corpus {corpus}"] if corpus else []
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return f'<h1 class="smim-title">{escape(index.resolve().name)}</h1><ul class="smim-facts">{items}</ul>'


def problem(message: object) -> str:
    return f'<p class="smim-problem" role="alert">{escape(shortened(str(message)))}</p>'


def note(message: str) -> str:
    return f'<p class="smim-note">{escape(message)}</p>'


def examples(texts: Sequence[str]) -> str:
    """Sentences to try, each a button."""
    if not texts:
        return ""
    buttons = "".join(f'<button type="button" data-text="{escape(text)}">{escape(text)}</button>' for text in texts)
    return f'<div class="smim-examples"><span>Try</span>{buttons}</div>'


def decoded(text: str, *, caption: str) -> str:
    """One sentence that the model wrote."""
    return (
        f'<div class="smim-decoded"><p class="smim-caption">{escape(caption)}</p>'
        f'<p class="smim-sentence">{_sentence(text)}</p></div>'
    )


def sentences(texts: Sequence[str], *, caption: str, captions: Sequence[str] = ()) -> str:
    """Sentences that the model wrote; `captions`, one for each, stand before them."""
    before = [f'<span class="smim-at">{escape(each)}</span>' for each in captions] or [""] * len(texts)
    items = "".join(f"<li>{at}<span>{_sentence(text)}</span></li>" for at, text in zip(before, texts, strict=True))
    return f'<p class="smim-caption">{escape(caption)}</p><ol class="smim-sentences">{items}</ol>'


def hits(result: SearchResult, *, caption: str, offset: int = 0, buttons: bool = True) -> str:
    """The sentences that were found, each with a button for more like it unless `buttons` is False."""
    lacking = f"Parts of the index did not answer, hits may be missing: {', '.join(result.missing)}"
    items = "".join(_hit(hit, rank, buttons) for rank, hit in enumerate(result.hits, offset + 1))
    status = f'<p class="smim-caption" role="status">{escape(caption)}</p>'
    hits = f'<ol class="smim-hits">{items}</ol>' if items else ""
    return (problem(lacking) if result.missing else "") + status + hits


def pages(*, previous: int | None, following: int | None) -> str:
    """Buttons to turn the page, each with the offset that it leads to; None where there is no such page."""

    def button(label: str, offset: int | None) -> str:
        at = "disabled" if offset is None else f'data-offset="{offset}"'
        return f'<button type="button" {at}>{label}</button>'

    if previous is None and following is None:
        return ""
    both = button("← Nearer", previous) + button("Farther →", following)
    return f'<nav class="smim-pages" aria-label="Pages of hits">{both}</nav>'


def _hit(hit: Hit, rank: int, button: bool) -> str:
    facts = [f'<span class="smim-distance">distance {hit.distance:.3f}</span>']
    if hit.score is not None:
        facts.append(f"<span>log q {hit.score:,.1f} nats</span>")
    shown = [f"{name}: {value}" for name, value in hit.labels.items() if value is not None]
    facts += [f'<span class="smim-label">{escape(label)}</span>' for label in shown]
    facts.append(f"<span>#{hit.id}</span>")
    written = f'<p class="smim-written"><span>decodes as</span> {_sentence(hit.reconstruction or "")}</p>'
    name = escape(f"More like this: {hit.text[:120]}")
    like = f'<button type="button" data-like="{hit.id}" aria-label="{name}">More like this</button>'
    return (
        f'<li><span class="smim-rank">{rank}</span>'
        f'<div><p class="smim-sentence">{_sentence(hit.text)}</p>{written if hit.reconstruction is not None else ""}'
        f'<p class="smim-about">{"".join(facts)}</p></div>{like if button else ""}</li>'
    )


def _sentence(text: str) -> str:
    return escape(text) if text.strip() else '<em class="smim-nothing">(no words)</em>'
