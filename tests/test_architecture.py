"""docs/architecture.md is true: imports point the way that it says, and what it names is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
OUTSIDE = ("benchmarks", "data_prep", "eval", "launch")
# A line of the block is a layer, the lowest first; parts of one line do not import each other.
LAYERS = [re.split(r",\s*", line) for line in TEXT.split("```layers\n")[1].split("```")[0].strip().splitlines()]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def _part(module: str) -> str:
    """`search` of `smim.search.index`; `eval` of `eval.tables`; "" of `smim` itself."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "smim" else first


def _imports(path: Path) -> Iterator[str]:
    """What a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files() -> list[str]:
    folders = ("smim", *OUTSIDE)
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _is_allowed(importer: str, imported: str) -> bool:
    if imported in ("", "__version__") or importer == imported:
        return True
    if importer in OUTSIDE:
        # A benchmark and the demo may use what the scripts do.
        return imported not in OUTSIDE or importer in ("benchmarks", "launch")
    return imported in LEVEL and LEVEL[imported] < LEVEL[importer]


@pytest.mark.parametrize("file", _files())
def test_imports_point_one_way(file):
    importer = _part(".".join(Path(file).with_suffix("").parts))
    if importer == "__init__":
        return  # `smim.load` and its like, which import at the first use
    ours = {_part(name) for name in _imports(ROOT / file) if name.split(".")[0] in ("smim", *OUTSIDE)}
    assert [each for each in sorted(ours) if not _is_allowed(importer, each)] == []


def test_each_part_of_the_package_has_a_layer():
    parts = {
        path.stem for path in (ROOT / "smim").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert parts - {"__init__"} == set(LEVEL)


def test_a_backward_import_is_seen():
    assert not _is_allowed("text", "search") and _is_allowed("search", "text")
    assert not _is_allowed("data_prep", "eval") and not _is_allowed("evaluation", "eval")


def test_paths_of_the_page_exist():
    paths = set(re.findall(r"`((?:smim|data_prep|eval|configs|launch|tests|benchmarks|docs)/[\w./-]*)`", TEXT))
    assert paths and [path for path in sorted(paths) if not (ROOT / path).exists()] == []
