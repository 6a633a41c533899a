"""Metrics: means, ratios, their standard errors, and refusals."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from smim import schema
from smim.errors import SmimError
from smim.evaluation import section
from smim.evaluation.section import Definition, Metric, Section, Table


def test_the_standard_error_is_over_items_and_the_deviation_over_runs():
    metric = section.mean(np.array([[1.0, 3.0], [5.0, 7.0], [9.0, 5.0]]))
    assert metric.value == 5 and metric.n == 3 and metric.runs == 2
    assert metric.standard_error == pytest.approx(np.std([2, 6, 7], ddof=1) / math.sqrt(3))
    assert metric.stdev_over_runs == pytest.approx(0)


def test_one_run_has_no_deviation_and_one_item_no_error():
    assert section.mean(np.array([1.0, 2.0])).stdev_over_runs is None
    assert section.mean(np.array([[1.0, 2.0]])).standard_error is None


def test_the_error_of_a_ratio_is_that_of_many_samples_of_it():
    random = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        lengths = random.integers(1, 40, 300)
        return lengths * 3.0 + random.normal(0, 5, 300), lengths

    ratios = [values.sum() / lengths.sum() for values, lengths in (draw() for _ in range(2000))]
    errors = [section.ratio(*draw()).standard_error for _ in range(50)]
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.1)


def test_a_perplexity_takes_its_errors_to_first_order():
    metric = section.exponential(Metric(2.0, 0.01, n=3, runs=2, stdev_over_runs=0.002))
    assert metric.value == pytest.approx(math.exp(2))
    assert metric.standard_error == pytest.approx(0.01 * math.exp(2))
    assert metric.stdev_over_runs == pytest.approx(0.002 * math.exp(2))


def defined(name: str) -> Definition:
    """A metric of all that is computed."""
    return Definition(name, "", "", lambda computed: computed)


def test_a_metric_of_what_was_not_computed_is_left_out():
    half = Definition("half", "", "", lambda computed: computed["all"] / 2)
    assert section.measure([half], {}) == {}
    assert section.measure([half], {"all": np.array([2.0, 4.0])})["half"].value == 1.5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_a_number_is_an_error_that_names_it(value):
    with pytest.raises(SmimError, match="'nll'"):
        section.measure([defined("nll")], np.array([1.0, value]))
    with pytest.raises(SmimError, match="'mmd'"):
        section.measure([defined("mmd")], section.scalar(value, n=1))


def test_a_section_comes_back_from_json():
    original = Section(
        "Title", {"nll": Metric(1.0, None, n=2)}, ["note"], [Table("t", ["a"], [["b"]])], {"x.png": "caption"}
    )
    assert schema.make(Section, asdict(original), Path("section.json")) == original
