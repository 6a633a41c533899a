"""The notebooks of `examples/` run, and what is committed is what they give."""

import re
from pathlib import Path

import nbformat
import pytest

from launch.notebooks import EXAMPLES, NEEDS_RAY, execute, outputs

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
QUICK = {"quickstart.ipynb", "interoperation.ipynb"}
# Their trainings differ in the last digits between machines, and so does what they write.
TRAINS = {"own_csv.ipynb", "collapse.ipynb"}


def said(notebook: nbformat.NotebookNode) -> list[str]:
    """The text of its outputs without the digits behind a decimal point, which machines round in their own way."""
    return [re.sub(r"\.\d+", "", text) for _, text in outputs(notebook)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_small_with_outputs_without_warnings_or_paths_of_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 100_000
    ran = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert ran == list(range(1, len(ran) + 1))
    found = outputs(notebook)
    assert found and {output.output_type for output, _ in found} <= {"stream", "execute_result", "display_data"}
    assert not [text for output, text in found if output.get("name") == "stderr"]
    assert not [text for _, text in found if re.search(r"/(home|root|tmp|work|Users)/|site-packages", text)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_to_files_that_are_there(path: Path) -> None:
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", "\n".join(texts))
    assert links and not [link for link in links if "://" not in link and not (path.parent / link).exists()]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[] if path.name in QUICK else pytest.mark.slow) for path in NOTEBOOKS],
)
def test_a_notebook_gives_the_outputs_that_are_committed(path: Path, tmp_path: Path) -> None:
    if path.name in NEEDS_RAY:
        pytest.importorskip("ray")
    executed, committed = said(execute(path, tmp_path)), said(nbformat.read(path, as_version=4))
    assert len(executed) == len(committed)
    if path.name not in TRAINS:
        assert executed == committed
