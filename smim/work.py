"""A job's working directory, beside its output directory, from which a killed job continues.

.NAME.work/
    identity.json    all that determines the result; if it is missing or different, the job starts anew
    result/          is renamed to NAME at the end
    ...              other finished work
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smim import storage
from smim.errors import UserError
from smim.lock import own_place
from smim.progress import console

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_output(output: Path, *, card: str, kind: str) -> None:
    """Raise `UserError` if `output` exists, is not empty, and is not of this `kind`, which has the file `card`."""
    if output.exists() and not (output / card).is_file() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not {kind}; give another output=DIR")


@dataclass(frozen=True)
class WorkDirectory:
    """The finished work of a job that makes the directory `output`.

    `identity`: all that determines the result, as JSON. `kind`: what the result is, for messages ("a report"). `card`:
    the file that identifies an `output` of this kind, which may be replaced.
    """

    output: Path
    identity: Mapping[str, Any]
    card: str
    kind: str

    @property
    def path(self) -> Path:
        return self.output.parent / f".{self.output.name}.work"

    @property
    def result(self) -> Path:
        return self.path / "result"

    @contextmanager
    def owned(self, accelerator: "Accelerator | None" = None) -> Iterator[None]:
        """Lock the output's path, and continue what a job of the same identity has left, until the block ends.

        At the end `result` is moved to `output` if its card was written, and the rest is removed. After a mistake of
        the user, a new directory is removed. What an earlier job left stays, and after any other failure everything
        stays. With an `accelerator`, all processes of the job call this, and the main one does the work.

        Raises `UserError` if `output` is something else, or another process makes it.
        """
        output, is_main = self.output, accelerator is None or accelerator.is_main_process
        check_output(output, card=self.card, kind=self.kind)
        with own_place(output, accelerator):
            is_new = is_main and self._prepare()
            if accelerator:
                accelerator.wait_for_everyone()
            try:
                yield
                finished = is_main and (self.result / self.card).is_file()
                if finished:
                    storage.remove_partials(self.result)  # those of workers on a lost machine
                    storage.sync_directory(self.result)  # slow; reports a full disk
            except BaseException as error:
                if is_new and isinstance(error, UserError):
                    self._remove()
                elif is_main:
                    console.print(f"finished work stays in {self.path}; the same command continues from there")
                raise
            if finished:
                self._identity.unlink()  # without the result, no job can continue from the rest
                storage.put_in_place(self.result, output)
            if is_main:
                self._remove()

    def _prepare(self) -> bool:
        """Create the directory, or clean up what a killed job left; True if it is new."""
        # Convert as reading does, which turns tuples into lists.
        identity = json.loads(json.dumps({"makes": self.kind, **self.identity}))
        try:
            is_new = storage.read_json(self._identity) != identity
        except UserError:
            is_new = True
        if is_new:
            self._remove()
            storage.write_json(self._identity, identity)
        else:
            console.print(f"continuing the work of an earlier job in {self.path}")
        storage.remove_partials(self.path)
        self.result.mkdir(exist_ok=True)
        return is_new

    def _remove(self) -> None:
        """Remove everything, the identity first, so that no job continues from a partly removed directory."""
        storage.clear_away(self._identity)
        storage.clear_away(self.path)

    @property
    def _identity(self) -> Path:
        return self.path / "identity.json"
