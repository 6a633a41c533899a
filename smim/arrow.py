"""Arrow's files, memory-mapped: what they say of themselves is compared with their size before anything follows it."""

from pathlib import Path

import pyarrow as pa

from smim.errors import UserError


def open_rows(path: Path) -> pa.RecordBatchFileReader:
    """An Arrow IPC file; raises `UserError` for what is none. Its batches are to be checked by `check_batch`."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is missing or damaged ({first_line(error)})") from None


def read_stream(path: Path) -> pa.Table:
    """The checked rows of an Arrow IPC stream; raises `UserError` for what is none."""
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        for batch in table.to_batches():
            check_batch(batch)
        return table
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is missing or damaged ({first_line(error)})") from None


def check_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch from a file whose columns stay inside of it; raises `pa.ArrowInvalid` for others.

    Reads where text begins and ends, not the text, which may be no UTF-8.
    """
    batch.validate()
    for column in batch.columns:
        (column.cast(pa.binary()) if pa.types.is_string(column.type) else column).validate(full=True)
    return batch


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
