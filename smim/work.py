"""A job's working directory, beside the directory that it makes: a job that was killed goes on from it.

.NAME.work/
    identity.json    all that decides the result: a job of another identity starts anew, and so does one without
    result/          what is renamed to NAME at the end
    ...              what else the job keeps of what it has finished
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


@dataclass(frozen=True)
class WorkDirectory:
    """What is finished of a job that makes the directory `output`.

    `identity`: all that decides the result, as JSON. `kind` says what the result is ("a report"); its file `card` is
    that by which an `output` of the kind is known, which may be replaced.
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
        """Owns the place of the output, and what a job of the same identity has left, until the block is left.

        At the end `result` is put at `output`, if its card was written, and the rest is removed. After a mistake of the
        user's a new directory is removed; what an earlier job left, and all after any other failure, stays. With an
        `accelerator` all processes of the job call it, and the main one does these things.

        Raises `UserError` where `output` is something else, or another process makes it.
        """
        output, is_main = self.output, accelerator is None or accelerator.is_main_process
        if output.exists() and not (output / self.card).is_file() and (output.is_file() or any(output.iterdir())):
            raise UserError(f"{output} is there and is not {self.kind}; give another output=DIR")
        with own_place(output, accelerator):
            is_new = is_main and self._prepare()
            if accelerator:
                accelerator.wait_for_everyone()
            try:
                yield
                finished = is_main and (self.result / self.card).is_file()
                if finished:
                    storage.sync_directory(self.result)  # takes long, and a full disk is reported here
            except BaseException as error:
                if is_new and isinstance(error, UserError):
                    self._remove()
                elif is_main:
                    console.print(f"what is finished stays in {self.path}: the same command goes on from there")
                raise
            if finished:
                self._identity.unlink()  # without its result, the rest is nothing to go on from
                storage.put_in_place(self.result, output)
            if is_main:
                self._remove()

    def _prepare(self) -> bool:
        """Makes the directory anew, or clears up what a killed job left; True where it is new."""
        # As it is read again, which makes lists of tuples.
        identity = json.loads(json.dumps({"makes": self.kind, **self.identity}))
        try:
            is_new = storage.read_json(self._identity) != identity
        except UserError:
            is_new = True
        if is_new:
            self._remove()
            storage.write_json(self._identity, identity)
        else:
            console.print(f"going on with what an earlier job left in {self.path}")
        for stale in [*self.path.rglob(".*.partial")]:  # of a job or a worker that was killed
            storage.clear_away(stale)
        self.result.mkdir(exist_ok=True)
        return is_new

    def _remove(self) -> None:
        """Removes all of it, the identity first: nothing goes on from what a kill leaves."""
        storage.clear_away(self._identity)
        storage.clear_away(self.path)

    @property
    def _identity(self) -> Path:
        return self.path / "identity.json"
