"""Models side by side by meaning and fidelity, as a table and a picture."""

import json

import pytest

from tests.evaluation.reports import content, metrics, write
from tests.scripts import run_script

OURS = {"spearman:stsb-dev": 0.81, "word_for_word:stsb-dev": 0.95, "spearman_by:stsb-dev/TF-IDF": 0.73}


@pytest.fixture
def reports(tmp_path):
    made = {"codes": OURS, "written": {"nats_above_real:between": 0.25}, "plain": {"spearman:stsb-dev": 0.5}}
    (tmp_path / "plots").mkdir()
    for name, values in made.items():
        write(tmp_path / name, metrics(**values), content())
    return tmp_path


def test_reports_of_a_model_are_one_row_and_one_point(reports):
    given = [f"ours={reports}/codes,{reports}/written", "--output", str(reports / "meaning.png")]
    finished = run_script("eval/meaning.py", given)
    assert finished.returncode == 0, finished.stderr
    header, _, ours = [[cell.strip() for cell in line.strip("|").split("|")] for line in finished.stdout.splitlines()]
    assert header[:3] == ["model", "spearman:stsb-dev", "word_for_word:stsb-dev"]
    assert ours[0] == "ours" and ours[1].startswith("0.810 ±") and ours[3].startswith("0.250 ±") and ours[4] == ""
    assert (reports / "meaning.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_results_stands_for_its_reports(reports):
    given = {"a": OURS, "b": {"nats_above_real:between": 1.0}}
    kept = {at: {"metrics": {name: {"value": value} for name, value in of.items()}} for at, of in given.items()}
    (reports / "kept.json").write_text(json.dumps({"reports": kept}))
    finished = run_script("eval/meaning.py", [f"kept={reports / 'kept.json'}"])
    assert finished.returncode == 0, finished.stderr
    assert "| kept | 0.810 | 0.950 | 1.000 |" in finished.stdout


def test_what_a_report_lacks_is_named(reports):
    finished = run_script("eval/meaning.py", [f"plain={reports}/plain", "--output", str(reports / "meaning.png")])
    assert finished.returncode == 2 and not (reports / "meaning.png").exists()
    message = "the reports of plain have no word_for_word:stsb-dev; evaluate it with eval=codes on this set"
    assert message in finished.stderr
    unnamed = run_script("eval/meaning.py", [str(reports / "codes")])
    assert unnamed.returncode == 2 and "give one before the report" in unnamed.stderr
