"""The published results of the thesis's tables and the authors' demo (`eval/thesis.json`), by our metric names."""

import json
from functools import cache
from pathlib import Path

from smim.evaluation.reference import Row

THESIS, DEMO = "thesis", "authors' demo"  # sources


@cache
def rows() -> tuple[Row, ...]:
    """All published rows, in the order of the tables. No model is trained on YahooCQA (section 7.6)."""
    published = json.loads(Path(__file__).with_name("thesis.json").read_text(encoding="utf-8"))
    return tuple(Row(**row) for row in published["rows"])
