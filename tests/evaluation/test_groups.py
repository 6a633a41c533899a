"""Every metric has a meaning and an equation."""

from pathlib import Path

import pytest

from eval import compare
from smim import config
from smim.evaluation import reconstruction, run
from smim.evaluation.groups import GROUPS, definition, definitions
from smim.evaluation.likelihood import BOUNDS
from smim.evaluation.section import Definition
from tests.evaluation.reports import Page

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.mark.parametrize("name", definitions())
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


def test_metrics_that_groups_share_are_of_one_definition():
    every = [each for group in GROUPS.values() for each in group.metrics]
    assert {id(each) for each in every} == {id(each) for each in definitions().values()}


def test_one_entry_puts_a_metric_into_reports_and_comparisons(request, long_model, odd_corpus, tmp_path):
    trial = Definition(
        "half_right",
        "",
        "share of sentences of which half the words come back in their place",
        lambda scores: scores.accuracy >= 0.5,
        title="half right",
        better="higher",
    )
    reconstruction.METRICS.append(trial)
    request.addfinalizer(lambda: reconstruction.METRICS.remove(trial))
    overrides = [f"model.dir={long_model}", f"corpus.dir={odd_corpus}", f"output={tmp_path / 'report'}"]
    run.main(config.compose("evaluate", [*overrides, "eval.metrics=[reconstruction]", "eval.max_sentences=10"]))
    glance, full = Page((tmp_path / "report" / "report.html").read_text()).rows("half_right")
    assert glance["ours"] and full["meaning"].endswith("in their place; higher is better")
    report = compare.read_report(tmp_path / "report")
    assert 0 <= report["metrics"]["half_right"]["value"] <= 1 and report["metrics"]["half_right"]["n"] == 10
    assert "half right" in compare.as_markdown([report])
