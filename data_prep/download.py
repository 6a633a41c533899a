"""Downloads of files, with a check of their content."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from smim import storage
from smim.errors import UserError
from smim.progress import console


def download(url: str, target: Path, *, digest: str, instead: str, algorithm: str = "sha256") -> None:
    """Download `url` to `target`, unless `target` exists and has the hexadecimal hash `digest`.

    Raises `UserError` if the content has another hash, or without a connection. `instead`: advice for the message.
    """
    if target.is_file() and hashlib.new(algorithm, target.read_bytes()).hexdigest() == digest:
        return
    console.print(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise UserError(f"cannot download {url} ({error}). {instead}") from None
    if hashlib.new(algorithm, content).hexdigest() != digest:
        raise UserError(f"{url} does not have the expected {algorithm.upper()} {digest}; it was not kept. {instead}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with storage.new_file(target) as partial:
        partial.write_bytes(content)
