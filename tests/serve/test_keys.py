"""Keys from a file: what each may do, and what a wrong file is told."""

import hashlib
from pathlib import Path

import pytest

from smim.errors import UserError
from smim.serve.keys import Keys

READER, WRITER = "reader-key-0123456789", "writer-key-0123456789"
GOOD = f"""
[[keys]]
name = "reader"
sha256 = "{hashlib.sha256(READER.encode()).hexdigest().upper()}"
rights = ["read"]

[[keys]]
name = "writer"
key = "{WRITER}"
rights = ["read", "write"]
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_key_has_the_rights_of_its_entry(tmp_path: Path) -> None:
    keys = Keys.read(write(tmp_path / "keys.toml", GOOD))
    assert keys.rights_of(READER) == {"read"} and keys.rights_of(WRITER) == {"read", "write"}
    assert keys.rights_of(READER + "x") is keys.rights_of("") is keys.rights_of("\udcff") is None
    assert keys.may(READER, "read") and not keys.may(READER, "write") and not keys.may("", "read")


@pytest.mark.parametrize("digit", range(64))
def test_a_key_whose_hash_differs_in_one_digit_is_none_of_ours(tmp_path: Path, digit: int) -> None:
    digest = hashlib.sha256(READER.encode()).hexdigest()
    near = digest[:digit] + ("0" if digest[digit] != "0" else "1") + digest[digit + 1 :]
    text = f'[[keys]]\nname = "near"\nsha256 = "{near}"\nrights = ["read"]\n'
    assert Keys.read(write(tmp_path / "keys.toml", text)).rights_of(READER) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    path = write(tmp_path / "keys.toml", GOOD)
    Keys.read(path)
    assert not capsys.readouterr().err
    path.chmod(mode)
    Keys.read(path)
    assert "chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "must hold one"),
        ("keys = 3", "must hold one"),
        ("[[keys]", "not TOML"),
        (GOOD + "\n[other]\n", "nothing else"),
        (GOOD.replace("name", "nmae"), "and nothing else"),
        (GOOD.replace('"reader"', '""'), "needs a name"),
        (GOOD.replace('["read"]', '["raed"]'), "rights must be"),
        (GOOD.replace('["read"]', "[]"), "rights must be"),
        (GOOD.replace(WRITER, "fifteen-letters"), "at least 16"),
        (GOOD.replace('sha256 = "', 'sha256 = "x'), "64 hexadecimal"),
        (GOOD.replace(f'key = "{WRITER}"', ""), "either key or sha256"),
        (GOOD.replace("writer", "reader"), "same name"),
        (GOOD.replace(WRITER, READER), "same sha256"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Keys.read(write(tmp_path / "keys.toml", text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Keys.read(tmp_path / "keys.toml")
