"""The documentation site: `make docs`. Pages are the Markdown files of the clone, as they are; links between them hold.

The site's navigation is docs/navigation.md, which is put behind the README, the front page.
"""

import ast
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WITH_PAGES = ("docs", "benchmarks", "results")
CODE = re.compile(r"`([^`]+)`")
# Names in docstrings become links where the API has them: `Options`, `SentenceModel.decode` and `smim.search.query`
# wherever they are, `build_index` in the same class or module.
ANYWHERE = re.compile(r"(?:[A-Z]\w*|smim)(?:\.\w+)*")
NEARBY = re.compile(r"[a-z]+(?:_[a-z]+)+")

sys.path.insert(0, str(ROOT))  # the clone's own package, whichever is installed

project = "sMIM"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
root_doc = "README"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
include_patterns = ["*.md", "docs/**.md", "benchmarks/notes/*.md", "results/*.md"]
_others = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in WITH_PAGES}
exclude_patterns = ["docs/navigation.md", *sorted(_others | {"build"})]
highlight_language = "none"

# Anchors of headings as GitHub has them: `page.md#section`.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"sMIM {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"


def to_rst(docstring: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText: `code` in single backticks, and examples as blocks."""
    lines: list[str] = []
    blocks = re.split(r"\n\s*\n", "\n".join(docstring).rstrip())
    for number, block in enumerate(blocks):
        if block.startswith("    ") or (number and _is_example(block)):
            language = "python" if _is_python(block) else "none"
            shift = "" if block.startswith("    ") else "    "
            lines += [f".. code-block:: {language}", "", *(shift + line for line in block.split("\n")), ""]
        else:
            lines += [*_inline(block).split("\n"), ""]
    return lines


def _inline(text: str) -> str:
    """`code` as a literal, or a link where it is a name; whatever else means something in reStructuredText, escaped."""
    parts = CODE.split(text)
    for i, part in enumerate(parts):
        if not i % 2:
            parts[i] = re.sub(r"([\\*_|])", r"\\\1", part)
        elif ANYWHERE.fullmatch(part) or NEARBY.fullmatch(part):
            # With a dot in front, a name is looked for in all modules.
            parts[i] = f":py:obj:`{'.' if part[0].isupper() else ''}{part}`"
        else:
            parts[i] = f"``{' '.join(part.split())}``"
        if i % 2:
            # Letters may touch it: `k`th.
            parts[i] = rf"\ {parts[i]}\ "
    return "".join(parts)


def _is_python(block: str) -> bool:
    try:
        ast.parse(re.sub("^    ", "", block, flags=re.MULTILINE))
    except SyntaxError:
        return False
    return True


def _is_example(block: str) -> bool:
    """Whether it is code that a formatter has moved to the margin, where a docstring has nothing else but a summary."""
    return _is_python(block) and any(isinstance(node, ast.Call | ast.Import) for node in ast.walk(ast.parse(block)))


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def _navigation(app: Any, page: str, source: list[str]) -> None:
    if page == root_doc:
        navigation = ROOT / "docs/navigation.md"
        source[0] += "\n" + navigation.read_text()
        app.env.note_dependency(str(navigation), docname=page)


def _outside(app: Any, doctree: Any) -> None:
    """Links to what is no page: a file is downloaded, and of a link to a directory its text is left."""
    from sphinx.addnodes import download_reference, pending_xref

    page = app.env.docname
    for node in [each for each in doctree.findall(pending_xref) if each["reftype"] == "myst"]:
        target = node["reftarget"]
        if node["refdomain"] == "doc" and target not in app.env.found_docs:
            node.replace_self(download_reference("", "", *node.children, reftarget=f"/{target}.md", refdoc=page))
        elif (ROOT / page).parent.joinpath(target).is_dir():
            node.replace_self(node.children)


def _index(app: Any, exception: Exception | None) -> None:
    """The front page is README.html, to which pages link, and index.html, which servers look for."""
    if not exception and app.builder.format == "html":
        shutil.copyfile(app.outdir / "README.html", app.outdir / "index.html")


def _math(translator: Any, node: Any) -> None:
    """LaTeX as MathML, which browsers show without a script, and without a network."""
    from docutils.nodes import SkipNode, math_block
    from docutils.utils.math import MathError
    from docutils.utils.math.latex2mathml import tex2mathml
    from sphinx.util import logging

    # Two commands that it does not know, as two that it does.
    tex = re.sub(r"\\dots(?![a-z])", r"\\ldots", re.sub(r"\\([Bb]igg?)(?![a-z])", r"\\\1l", node.astext()))
    try:
        translator.body.append(tex2mathml(tex, as_block=isinstance(node, math_block)))
    except MathError as error:
        logging.getLogger(__name__).warning("not understood: %s: %s", tex, error, location=node)
    raise SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("layers", TextLexer)  # docs/architecture.md, for its test
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("source-read", _navigation)
    app.connect("doctree-read", _outside, priority=100)  # before Sphinx collects what is downloaded
    app.connect("build-finished", _index)
