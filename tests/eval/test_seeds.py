"""Objectives side by side over seeds."""

import pytest

from eval.seeds import differences, over_seeds
from tests.evaluation.reports import content, metrics


def report(objective: str, value: float, **settings) -> dict:
    described = content(objective, 16)
    described["model"] |= {"settings": settings, "seed": round(10 * value)}
    metric = metrics(mutual_information=value, kl=2 * value)["likelihood"].metrics
    return {**described, "metrics": {name: {"value": each.value} for name, each in metric.items()}}


@pytest.fixture
def reports() -> list[dict]:
    return [
        *(report("vae", value) for value in (0.1, 0.3, 0.2)),
        *(report("vae", value, free_bits=0.5) for value in (3.0, 3.2, 3.1)),
        *(report("amim", value) for value in (8.0, 8.2, 8.1)),
    ]


def cells(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def test_seeds_of_the_same_settings_are_one_row_of_mean_and_stdev(reports):
    header, _, *rows = cells(over_seeds(reports))
    assert header == ["model (latent dim)", "seeds", "mutual information", "KL"]
    assert rows == [
        ["sVAE (16)", "3", "0.20 ± 0.10", "0.40 ± 0.20"],
        ["sVAE (16), free\\_bits 0.5", "3", "3.10 ± 0.10", "6.20 ± 0.20"],
        ["sMIM (16)", "3", "8.10 ± 0.10", "16.20 ± 0.20"],
    ]


def test_differences_are_to_the_plain_vae_in_units_of_the_spread(reports):
    header, _, *rows = cells(differences(reports))
    assert header[0] == "less sVAE (16), in spreads"
    assert rows == [["sVAE (16), free\\_bits 0.5", "+29.0", "+29.0"], ["sMIM (16)", "+79.0", "+79.0"]]


def test_each_architecture_is_measured_by_the_vae_of_its_own(reports):
    transformers = [
        *(report("vae", value) for value in (0.5, 0.6, 0.7)),
        *(report("amim", value) for value in (7.0, 7.1, 7.2)),
    ]
    for each in transformers:
        each["model"]["architecture"] = "transformer"
    alone, other = differences(reports), differences(transformers)
    assert differences(reports + transformers) == f"{alone}\n\n{other}"
    assert cells(other)[2][:2] == ["sMIM (16), transformer", "+65.0"]
    assert len(cells(over_seeds(reports + transformers))[2:]) == 5


def test_models_of_another_size_or_corpus_are_no_seeds_of_each_other(reports):
    larger, elsewhere = report("amim", 7.0), report("amim", 7.1)
    larger["model"]["parameters"] = 179_000_000
    elsewhere["model"]["trained_on"] = "everything"
    rows = cells(over_seeds([*reports[6:], larger, elsewhere]))[2:]
    assert [row[:2] for row in rows] == [
        ["sMIM (16), 12,092,893 parameters", "3"],
        ["sMIM (16), 179,000,000 parameters", "1"],
        ["sMIM (16), trained on everything", "1"],
    ]


def test_of_several_reports_of_a_seed_the_first_counts(reports):
    again = report("amim", 8.0)
    again["metrics"]["mutual_information"]["value"] = 1.0
    assert over_seeds([*reports, again]) == over_seeds(reports)


def test_one_seed_each_makes_no_table(reports):
    assert over_seeds(reports[::3]) == "" and differences(reports[::3]) == ""
    assert over_seeds([reports[0], reports[0]]) == ""


def test_without_a_plain_vae_there_are_no_differences(reports):
    assert differences(reports[3:]) == ""


def test_a_metric_that_one_objective_lacks_leaves_its_cell_empty(reports):
    for each in reports[:3]:
        del each["metrics"]["kl"]
    assert cells(over_seeds(reports))[2][-1] == "" and cells(over_seeds(reports))[3][-1] != ""
    assert cells(differences(reports))[0][1:] == ["mutual information"]
