"""What the thesis's tables and the authors' demo publish (`eval/thesis.json`), by the names of our metrics."""

import json
from functools import cache
from pathlib import Path

from smim.evaluation.reference import Row

THESIS, DEMO = "thesis", "authors' demo"  # sources


@cache
def rows() -> tuple[Row, ...]:
    """Every published row, in the order of the tables; nothing is trained on YahooCQA (section 7.6)."""
    published = json.loads(Path(__file__).with_name("thesis.json").read_text(encoding="utf-8"))
    return tuple(Row(**row) for row in published["rows"])
