"""docs/conf.py: docstrings become reStructuredText. What the site links to is checked by `make docs`."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONF = runpy.run_path(str(ROOT / "docs/conf.py"))


@pytest.mark.parametrize(
    ("text", "rst"),
    [
        ("The `k` nearest.", r"The ``k`` nearest."),
        ("of `use\nor not`", "of ``use or not``"),
        ("Raises `UserError`.", r"Raises :py:obj:`.UserError`."),
        ("see `smim.search.filters`", r"see :py:obj:`smim.search.filters`"),
        ("as of `SentenceModel.encode`", r"as of :py:obj:`.SentenceModel.encode`"),
        ("As `build_index`", r"As :py:obj:`build_index`"),
        ("KL(q(z|x) || p(z)), mean_j", r"KL(q(z\|x) \|\| p(z)), mean\_j"),
        ("a * b", r"a \* b"),
    ],
)
def test_what_stands_in_a_line(text: str, rst: str) -> None:
    assert "\n".join(CONF["to_rst"](text.split("\n"))).replace("\\ ", "").split() == rst.split()


def test_examples_are_blocks() -> None:
    docstring = ["Loads a model.", "", "    model = smim.load('x_y_')  # `a`", "", "Raises nothing."]
    assert CONF["to_rst"](docstring) == [
        *("Loads a model.", "", ".. code-block:: python", ""),
        *("    model = smim.load('x_y_')  # `a`", "", "Raises nothing.", ""),
    ]


def test_an_example_that_a_formatter_moved_to_the_margin_is_a_block() -> None:
    assert CONF["to_rst"](["The hits.", "", "index.search('a')"])[2:] == [
        *(".. code-block:: python", "", "    index.search('a')", "")
    ]


def test_an_example_that_is_no_python_is_shown_as_it_is() -> None:
    assert ".. code-block:: none" in CONF["to_rst"](["Update.", "", "    r, u = sigmoid(W x)    n = tanh(x)"])
