"""The tables of docs/results.md and docs/results/, which come from the files of results/."""

import json
from pathlib import Path

import pytest

from eval import pages
from smim.errors import UserError


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_a_page_is_as_the_command_would_write_it(page: Path) -> None:
    text = page.read_text()
    assert pages.filled(text) == text, "python eval/pages.py writes it"
    assert text.count("<!-- table ") == text.count("<!-- end -->") == len(pages.BLOCK.findall(text))


def test_every_table_stands_on_one_page() -> None:
    named = [name for page in pages.PAGES for name in pages.BLOCK.findall(page.read_text())]
    assert sorted(named) == sorted(pages.definitions())


@pytest.mark.parametrize("between", ["", "| 0.9 |\n", "\n| 0.9 |\n\n"])
def test_what_is_between_the_marks_is_replaced_and_nothing_else(between: str) -> None:
    block = f"<!-- table ptb_bleu -->\n{between}<!-- end -->"
    written = pages.filled(f"before\n{block}\nprose\n{block}\nafter\n")
    block = f"<!-- table ptb_bleu -->\n\n{pages.table('ptb_bleu')}\n\n<!-- end -->"
    assert written == f"before\n{block}\nprose\n{block}\nafter\n"
    assert pages.filled(written) == written


def test_cells_are_those_of_the_file_and_of_the_published_model() -> None:
    kept = json.loads((pages.ROOT / "results/ptb_smim_16.json").read_text())
    metric = kept["reports"]["report"]["metrics"]["nll"]
    [line] = [line for line in pages.table("ptb_likelihood").splitlines() if line.startswith("| sMIM (16) ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == f"{metric['value']:.2f} ± {metric['standard_error']:.2f}"
    assert cells[2:4] == ["98.35", "98.1"]
    assert "| 0.683 | 0.818 |" in pages.table("yahoocqa_thesis")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": {"NLL": "nil"}}, "no row has nil"),
        ({"rows": {"x": "thesis: sMIM (5)"}}, r"has no sMIM \(5\) of ptb"),
        ({"rows": {"x": "ptb_none"}}, "ptb_none.json"),
    ],
)
def test_a_mistake_in_the_definitions_is_named(changed, message, monkeypatch) -> None:
    tables = {"t": pages.definitions()["ptb_bleu"] | changed}
    monkeypatch.setattr(pages, "definitions", lambda: tables)
    with pytest.raises(UserError, match=message):
        pages.table("t")
    with pytest.raises(UserError, match="no table other"):
        pages.filled("<!-- table other -->\n<!-- end -->")
