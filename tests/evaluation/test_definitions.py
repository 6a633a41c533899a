"""Every figure has a meaning and an equation."""

from pathlib import Path

import pytest

from smim.evaluation.definitions import BOUNDS, FIGURES, definition

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.mark.parametrize("name", FIGURES)
def test_the_docs_define_every_figure(name):
    # A bound's figures are defined once: `ppl…` stands for `ppl`, `ppl_elbo` and so on.
    suffix = max((suffix for suffix in BOUNDS if name.endswith(suffix)), key=len)
    docs = DOCS.read_text(encoding="utf-8")
    assert f"`{name}`" in docs or f"`{name.removesuffix(suffix)}…`" in docs


def test_figures_of_a_label_column_are_defined_by_their_name():
    assert "topic" in definition("knn_accuracy:topic").meaning
    with pytest.raises(KeyError):
        definition("accuracy:topic")
