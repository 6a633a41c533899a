"""Every metric has a meaning and an equation."""

from pathlib import Path

import pytest

from smim.evaluation.groups import GROUPS, definition
from smim.evaluation.likelihood import BOUNDS

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.mark.parametrize("name", sorted({each.name for group in GROUPS.values() for each in group.metrics}))
def test_the_docs_define_every_metric(name):
    # A bound's metrics are defined once: `ppl…` stands for `ppl`, `ppl_elbo` and so on.
    suffix = max((suffix for suffix in BOUNDS if name.endswith(suffix)), key=len)
    docs = DOCS.read_text(encoding="utf-8")
    names = {f"`{name}`", f"`{name.removesuffix(suffix)}…`", f"`{name}:COLUMN`"}
    assert any(each in docs for each in names) and definition(name).meaning


def test_metrics_of_a_label_column_are_defined_by_their_name():
    assert "topic" in definition("knn_accuracy:topic").meaning
    with pytest.raises(KeyError):
        definition("accuracy:topic")
