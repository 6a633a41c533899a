"""Reports made by hand: what eval/run.py gives to `write_report`, and the pages that come of it, read back."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from eval import thesis
from smim import storage
from smim.evaluation.report import write_report
from smim.evaluation.section import Metric, Section

_VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


def content(
    objective: str = "amim",
    latent_dim: int = 512,
    *,
    corpus: str = "ptb",
    trained_on: str | None = None,
    directory: str = "runs/one/model",
    **changes: Any,
) -> dict[str, Any]:
    """`changes`: of the corpus's description, `settings`, and those in `model`."""
    settings, model = changes.pop("settings", {}), changes.pop("model", {})
    return {
        "model": {
            "directory": directory,
            "hash": "a" * 64,
            "objective": objective,
            "latent_dim": latent_dim,
            "parameters": 12_092_893,
            "trained_on": trained_on or corpus,
            "seed": 0,
            "step": 21_034,
            "epoch": 10,
            "valid_loss": 67.684,
            **model,
        },
        "corpus": {
            "name": corpus,
            "directory": f"data/{corpus}",
            "split": "test",
            "sentences": 3761,
            "tokens": 81_642,
            "tokens_per_sentence": 81_642 / 3761,
            "bytes": 430_000,
            "hash": "b" * 64,
            "retokenized": False,
            "unknown_share": None,
            **changes,
        },
        "settings": {"split": "test", "seed": 3, "num_runs": 10, "max_length": 100, "max_sentences": None, **settings},
        "processes": 1,
        "device": "cpu",
        "seconds": {"likelihood": 61.25, "reconstruction": 240.0},
    }


def metrics(**values: float) -> dict[str, Section]:
    """One section with these metrics; a value may be a `Metric`."""
    made = {
        name: value if isinstance(value, Metric) else Metric(value, 0.41, n=3761, runs=10, stdev_over_runs=0.0123)
        for name, value in values.items()
    }
    return {"likelihood": Section("Likelihood", metrics=made)}


def write(output: Path, sections: dict[str, Section], described: dict[str, Any] | None = None) -> dict[str, Any]:
    """Writes a report with the thesis beside, its plots from `plots` beside `output`, and reads its JSON."""
    write_report(output, described or content(), sections, output.parent / "plots", reference=thesis.rows())
    return storage.read_json(output / "report.json")


class Page(HTMLParser):
    """A page's elements with their attributes, its text, and its tables: rows of the cells' text, the header first."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in _VOID or self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def rows(self, first: str) -> list[dict[str, str]]:
        """All rows that begin so, by the names of their table's header."""
        found = [(table[0], row) for table in self.tables for row in table[1:] if row[0] == first]
        return [dict(zip(header, row, strict=True)) for header, row in found]
