"""Execute the notebooks of `examples/`, and save them with their new outputs: `make notebooks`.

    python launch/notebooks.py                             # all of them
    python launch/notebooks.py examples/quickstart.ipynb

Notebooks write their files into `examples/output/`, which git ignores. If Ray is not installed, a notebook that needs
it is left unchanged.
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS_RAY = {"ray_cluster.ipynb"}
_SECONDS = 600  # limit for a cell
_MOST_BYTES = 100_000


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Execute the notebook at `path` in a new kernel with the working directory `folder`. Return it with its outputs.

    Commands in it come from this Python's environment. Raises `CellExecutionError` if a cell fails, and `ValueError` if
    a cell writes to stderr, as warnings do.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as own:
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "IPYTHONDIR": own,
            "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm would draw its bars by ipywidgets
        }
        # Use private files as sockets, not ports that other users can reach.
        connection = {"transport": "ipc", "connection_file": f"{own}/kernel.json"}
        client = NotebookClient(
            notebook,
            timeout=_SECONDS,
            kernel_name="python3",
            config=Config({"KernelManager": connection}),
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=environment)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    if warnings := [text for output, text in outputs(notebook) if output.get("name") == "stderr"]:
        raise ValueError(f"{path.name} writes to stderr, correct the cell: {warnings[0]}")
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[tuple[nbformat.NotebookNode, str]]:
    """List each output of the cells in order, with its text, which is empty for a plot."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [(each, each.get("text") or each.get("data", {}).get("text/plain", "")) for each in found]


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or sorted(EXAMPLES.glob("*.ipynb")):
        if path.name in NEEDS_RAY and importlib.util.find_spec("ray") is None:
            print(f"{path.name}: left unchanged, because Ray is not installed")
            continue
        text = nbformat.writes(execute(path, EXAMPLES)) + "\n"
        if len(text) > _MOST_BYTES:
            sys.exit(f"{path.name} would have {len(text):,} bytes, but at most {_MOST_BYTES:,} are allowed; print less")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
