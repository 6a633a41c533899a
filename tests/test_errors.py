"""What a command prints reaches whatever reads it."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import smim
from smim import cli
from smim.errors import reported_to_user
from smim.search import index_texts
from tests.scripts import ROOT

# Of Latin-1, of a code page of Windows, and of neither.
TEXT = "a bank in the café of Łódź lost 東"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    directory = tmp_path_factory.mktemp("indexes") / "texts"
    index_texts(smim.load(tiny_model), [TEXT], directory, model_dir=tiny_model, labels={"city": ["Łódź"]})
    return directory


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *words: object) -> str:
    """What `smim WORDS` prints in that encoding."""
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["smim", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    sys.stdout.flush()
    assert not ended.value.code
    return stream.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", TEXT),
        ("ascii", r"a bank in the caf\xe9 of \u0141\xf3d\u017a lost \u6771"),
        ("latin-1", r"a bank in the café of \u0141ód\u017a lost \u6771"),
        ("cp437", r"a bank in the café of \u0141ód\u017a lost \u6771"),
    ],
)
def test_a_letter_that_the_output_cannot_show_is_printed_as_an_escape(monkeypatch, texts, encoding, shown):
    [cells] = [line.split("\t") for line in printed(monkeypatch, encoding, "search", texts, "a bank").splitlines()]
    assert shown in cells
    found = json.loads(printed(monkeypatch, encoding, "search", texts, "a bank", "--json"))
    assert TEXT in json.dumps(found, ensure_ascii=False)


def test_a_path_that_is_too_long_is_told_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended, reported_to_user():
        Path("x" * 300).stat()
    assert ended.value.code == 2 and capsys.readouterr().err == f"error: the name is too long: {'x' * 300}\n"


def test_the_jobs_print_in_any_encoding_too(tmp_path):
    command = [sys.executable, "data_prep/build.py", "corpus=demo", f"output={tmp_path / 'demo'}", "prep.workers=1"]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert built.returncode == 0, built.stderr
    assert rb" \xb1 " in built.stdout and (tmp_path / "demo" / "corpus.json").is_file()
