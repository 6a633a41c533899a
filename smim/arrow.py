"""Memory-mapped Arrow files: what a file says about itself is checked against its size before it is used."""

from pathlib import Path

import pyarrow as pa

from smim.errors import UserError


def open_rows(path: Path) -> pa.RecordBatchFileReader:
    """Open an Arrow IPC file; raises `UserError` for other files. Check its batches with `check_batch`."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is missing or damaged ({first_line(error)})") from None


def read_stream(path: Path) -> pa.Table:
    """The checked rows of an Arrow IPC stream; raises `UserError` for other files."""
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        for batch in table.to_batches():
            check_batch(batch)
        return table
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is missing or damaged ({first_line(error)})") from None


def check_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch from a file if its columns stay inside of it; raises `pa.ArrowInvalid` otherwise.

    Checks the bounds of texts, not the texts, which may be invalid UTF-8.
    """
    batch.validate()
    for column in batch.columns:
        (column.cast(pa.binary()) if pa.types.is_string(column.type) else column).validate(full=True)
    return batch


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
