"""Markdown pages and their self-contained HTML: numbers with errors, tables, and escaped text."""

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

_TEMPLATE = Path(__file__).with_name("markup.html")
_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~&$]")
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) != "\t"}
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(e[-+]\d+)?[M%]?( (±|\(|of ).*)?")
_LARGE = 1e9
_SHORT = 16
_DATA_URI = "data:image/png;base64,"


def literal(text: str) -> str:
    """Escape plain text, so that Markdown shows it unchanged on one line. A line break becomes ↵."""
    return _MARKUP.sub(r"\\\g<0>", _LINE_BREAK.sub(" ↵ ", text).translate(_CONTROLS))


def prose(text: str) -> str:
    """Escape text like `literal`, except that `code` between backticks is shown as code."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(part if i % 2 else literal(part) for i, part in enumerate(parts))


def code(text: str) -> str:
    """Format plain text as code, if Markdown can express it."""
    return literal(text) if re.search(r"[`\\\s]", text) else f"`{text}`"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, optional: Collection[str] = ()) -> str:
    """Make a Markdown table. The cells are Markdown.

    Columns of numbers are aligned to the right. Columns of short words are explicitly aligned to the left, so that the
    HTML page does not wrap them. `optional`: columns that are left out if they are empty.
    """
    columns = [[name, *(row[i] for row in rows)] for i, name in enumerate(header)]
    columns = [column for column in columns if column[0] not in optional or any(column[1:])]
    for column in columns:
        column.insert(1, _rule(column[1:]))
    lines = ((re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in line) for line in zip(*columns, strict=True))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rounded(value: float, error: float | None) -> tuple[str, str]:
    """Round a value and its standard error to two significant digits of the error; without one, to five digits."""
    if not error or abs(value) >= _LARGE:
        return _significant(value, 5), "" if error is None else _significant(error, 2)
    digits = 1 - int(f"{error:.1e}".partition("e")[2])
    if digits > 8:
        return _significant(value, 5), _significant(error, 2)
    return f"{value:.{max(digits, 0)}f}", f"{error:.{max(digits, 0)}f}"


def with_error(value: float, error: float | None) -> str:
    """Format a value with its standard error, such as "66.93 ± 0.41"."""
    return " ± ".join(part for part in rounded(value, error) if part)


def html(markdown: str, *, images: Mapping[str, bytes] | None = None) -> str:
    """Convert a Markdown page to one HTML file, with a table of contents and with its images (PNG by path).

    The contents come before the first second-level heading. HTML in the page is shown as text. Links to other pages
    are not made.
    """
    renderer = _Renderer(images or {})
    tokens = renderer.parse(markdown)
    has_title = bool(tokens) and tokens[0].tag == "h1"
    title = "".join(child.content for child in tokens[1].children or []) if has_title else ""
    parts = (i for i, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2")
    head = next(parts, 3 if has_title else 0)
    contents = _contents(renderer, tokens)
    before, after = (renderer.renderer.render(part, renderer.options, {}) for part in (tokens[:head], tokens[head:]))
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body=before + contents + after)


class _Renderer(MarkdownIt):
    """A CommonMark renderer whose tables scroll in their own boxes, and whose images are data URIs."""

    def __init__(self, images: Mapping[str, bytes]) -> None:
        super().__init__("commonmark", {"html": False})
        self.images = images
        self.enable("table")
        self.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
        self.add_render_rule("table_close", lambda *_: "</table></div>\n")

    def validateLink(self, url: str) -> bool:
        # Other links stay plain text, because the page refers to nothing outside itself.
        return url.startswith(("#", _DATA_URI))

    def normalizeLink(self, url: str) -> str:
        if url not in self.images:
            return super().normalizeLink(url)
        return _DATA_URI + base64.b64encode(self.images[url]).decode()


def _contents(renderer: MarkdownIt, tokens: list[Token]) -> str:
    """Make a list of links to the second- and third-level headings, and give these headings anchors."""
    items: list[str] = []
    for i, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag in ("h2", "h3"):
            anchor = f"part-{len(items) + 1}"
            token.attrSet("id", anchor)
            text = renderer.renderer.render(tokens[i + 1].children or [], renderer.options, {})
            items.append(f'<li class="{token.tag}"><a href="#{anchor}">{text}</a></li>\n')
    return f'<nav aria-label="Contents"><ul>\n{"".join(items)}</ul></nav>\n' if items else ""


def _rule(cells: Sequence[str]) -> str:
    """Make the delimiter below a column's name, which sets its alignment."""
    filled = [cell for cell in cells if cell]
    if filled and all(_NUMBER.fullmatch(cell) for cell in filled):
        return "---:"
    return ":---" if all(len(cell) <= _SHORT for cell in filled) else "---"


def _significant(value: float, digits: int) -> str:
    """Format a value with `digits` significant digits, without an exponent for whole numbers below 1e9."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < _LARGE else text
