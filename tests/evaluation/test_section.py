"""Figures: means, ratios, their standard errors, and refusals."""

import math

import numpy as np
import pytest

from smim.errors import SmimError
from smim.evaluation import section
from smim.evaluation.section import Figure, Section, Table


def test_the_standard_error_is_over_items_and_the_deviation_over_runs():
    figure = section.mean("nll", np.array([[1.0, 3.0], [5.0, 7.0], [9.0, 5.0]]))
    assert figure.value == 5 and figure.n == 3 and figure.runs == 2
    assert figure.standard_error == pytest.approx(np.std([2, 6, 7], ddof=1) / math.sqrt(3))
    assert figure.stdev_over_runs == pytest.approx(0)


def test_one_run_has_no_deviation_and_one_item_no_error():
    assert section.mean("nll", np.array([1.0, 2.0])).stdev_over_runs is None
    assert section.mean("nll", np.array([[1.0, 2.0]])).standard_error is None


def test_the_error_of_a_ratio_is_that_of_many_samples_of_it():
    random = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        lengths = random.integers(1, 40, 300)
        return lengths * 3.0 + random.normal(0, 5, 300), lengths

    ratios = [values.sum() / lengths.sum() for values, lengths in (draw() for _ in range(2000))]
    errors = [section.ratio("nats_per_token", *draw()).standard_error for _ in range(50)]
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.1)


def test_a_perplexity_takes_its_errors_to_first_order():
    figure = section.exponential("ppl", Figure(2.0, 0.01, n=3, runs=2, stdev_over_runs=0.002))
    assert figure.value == pytest.approx(math.exp(2))
    assert figure.standard_error == pytest.approx(0.01 * math.exp(2))
    assert figure.stdev_over_runs == pytest.approx(0.002 * math.exp(2))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_not_a_number_is_an_error_that_names_it(value):
    with pytest.raises(SmimError, match="'nll'"):
        section.mean("nll", np.array([1.0, value]))
    with pytest.raises(SmimError, match="'mmd'"):
        section.scalar("mmd", value, n=1)


def test_a_section_comes_back_from_json():
    original = Section(
        "Title", {"nll": Figure(1.0, None, n=2)}, ["note"], [Table("t", ["a"], [["b"]])], {"x.png": "caption"}
    )
    assert Section.from_json(original.as_json()) == original
