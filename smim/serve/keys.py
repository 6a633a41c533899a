"""API keys and what each may do, from a TOML file:

    [[keys]]
    name = "reader"
    sha256 = "2bb80d53..."  # of the key; or `key = "..."`, the key itself
    rights = ["read"]

A key: python -c "import secrets; print(secrets.token_urlsafe(32))"
Its SHA-256: python -c "import hashlib; print(hashlib.sha256(input().encode()).hexdigest())"
"""

import hashlib
import hmac
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smim.errors import UserError, refuse_if

RIGHTS = ("read", "write")
_SHORTEST = 16


@dataclass(frozen=True)
class Key:
    name: str
    sha256: str
    rights: frozenset[str]


@dataclass(frozen=True)
class Keys:
    keys: tuple[Key, ...]

    @classmethod
    def read(cls, path: Path | str) -> "Keys":
        """Read a key file; raises `UserError` if it is missing or invalid, warns if other users can read it."""
        path = Path(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; create a file of API keys there, as in docs/serve.md") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not TOML: {error}") from None
        entries = content.get("keys")
        if not isinstance(entries, list) or not entries or set(content) != {"keys"}:
            raise UserError(f"{path} must hold one or more [[keys]] and nothing else")
        keys = tuple(_key(f"{path}, key {number}", entry) for number, entry in enumerate(entries, start=1))
        for field in ("name", "sha256"):
            if len({getattr(key, field) for key in keys}) < len(keys):
                raise UserError(f"{path} has two keys with the same {field}; each key needs its own")
        if path.stat().st_mode & 0o077:
            print(f"warning: other users can read {path}; run `chmod 600 {path}`", file=sys.stderr)
        return cls(keys)

    def rights_of(self, key: str) -> frozenset[str] | None:
        """The rights of a key, or None for an unknown key; takes the same time for every wrong key."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for each in self.keys:
            if hmac.compare_digest(each.sha256, digest):
                found = each.rights
        return found

    def may(self, key: str, right: str) -> bool:
        return right in (self.rights_of(key) or ())


def _key(place: str, entry: Any) -> Key:
    if not isinstance(entry, dict) or not set(entry) <= {"name", "key", "sha256", "rights"}:
        raise UserError(f"{place}: a key must have name, rights, and either key or sha256, and nothing else")
    given: dict[str, Any] = {"name": None, "rights": None, "key": None, "sha256": None} | entry
    name, rights, key, digest = given.values()
    refuse_if({
        f"{place}: it needs a name": not isinstance(name, str) or not name,
        f'{place}: rights must be ["read"], ["write"] or ["read", "write"]':
            not isinstance(rights, list) or not rights or not all(right in RIGHTS for right in rights),
        f"{place}: it needs either key or sha256": (key is None) == (digest is None),
        f"{place}: a key must have at least {_SHORTEST} characters, so that it cannot be guessed":
            key is not None and (not isinstance(key, str) or len(key) < _SHORTEST),
        f"{place}: sha256 must be 64 hexadecimal digits":
            digest is not None and (not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest)),
    })  # fmt: skip
    if key is not None:
        digest = hashlib.sha256(key.encode()).hexdigest()
    return Key(name, digest.lower(), frozenset(rights))
