"""Files that grow as they are written: an array of rows, a table in batches of one size, FAISS's exact vectors.

And how they are opened again, memory-mapped, where what they say of themselves is what is expected.
"""

import threading
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from smim.errors import UserError

DTYPES = {"fp32": np.float32, "fp16": np.float16}
# `precompute_tables` does what is skipped here.
_FLAGS = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
_FAISS_LIMITS = threading.Lock()


def open_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """A `.npy` file of just this type and shape, row upon row; raises `UserError` for any other."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # whatever Python's own parser says to a header
        raise UserError(f"{path} is no array in a file ({str(error)[:80]}); it is damaged") from None
    if (array.dtype, array.shape) != (dtype, shape) or not array.flags.c_contiguous:
        raise UserError(f"{path} holds {array.dtype} {array.shape} where {np.dtype(dtype)} {shape} is needed")
    # A view: numpy's own class of memory-mapped arrays is slow to index.
    return array.view(np.ndarray)


def open_vectors(path: Path) -> Any:
    """FAISS's index in a file; raises `UserError` for what is none, and before more is allocated than the file holds.

    FAISS checks that the parts of an index go together, and that its graphs and lists stay inside of them.
    """
    size = path.stat().st_size
    with _FAISS_LIMITS:  # the process's
        faiss.set_deserialization_vector_byte_limit(size)
        faiss.set_deserialization_loop_limit(size)
        try:
            return faiss.read_index(str(path), _FLAGS)
        except (RuntimeError, MemoryError) as error:
            raise UserError(f"{path} is no index of FAISS's ({str(error).splitlines()[0][:200]})") from None


class ArrayFile:
    """A `.npy` file, row upon row. It is there once something was appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = None
        self.dtype: np.dtype | None = None
        self.shape: tuple[int, ...] = ()

    def append(self, rows: np.ndarray) -> None:
        if self.file is None:
            self.file = open(self.path, "wb")  # noqa: SIM115, closed in __exit__
            self.dtype, self.shape = rows.dtype, (0, *rows.shape[1:])
            self._write_header()
        self.file.write(np.ascontiguousarray(rows).data)
        self.shape = (self.shape[0] + len(rows), *self.shape[1:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.seek(0)
            self._write_header()
            self.file.close()

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow.
        assert self.dtype is not None
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self.file, header)


class RowsFile:
    """An Arrow IPC file whose batches have `batch_rows` rows each, but for the last."""

    def __init__(self, path: Path, *, batch_rows: int) -> None:
        self.path, self.batch_rows = path, batch_rows
        self.writer: Any = None
        self.waiting: list[pa.Table] = []
        self.num_waiting = 0

    def append(self, rows: pa.Table) -> None:
        if self.writer is None:
            self.sink = pa.OSFile(str(self.path), "wb")
            self.writer = pa.ipc.new_file(self.sink, rows.schema)
        self.waiting.append(rows)
        self.num_waiting += rows.num_rows
        while self.num_waiting >= self.batch_rows:
            self._write(self.batch_rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            if self.num_waiting:
                self._write(self.num_waiting)
            self.writer.close()
            self.sink.close()

    def _write(self, num_rows: int) -> None:
        table = pa.concat_tables(self.waiting)
        batch = table.slice(0, num_rows).combine_chunks()
        self.writer.write_table(batch, max_chunksize=num_rows)
        self.waiting, self.num_waiting = [table.slice(num_rows)], self.num_waiting - num_rows


class FlatFile:
    """FAISS's file of an exact index, row upon row: added to the index itself, all of them would be held in memory.

    The file begins as that of an empty index; its two counts, of rows and at the header's end of numbers, come last.
    """

    _ROWS_AT = 8

    def __init__(self, path: Path, empty: Any) -> None:
        """`empty`: an index without rows, of the dimension and metric that are to be."""
        header = faiss.serialize_index(empty).tobytes()
        self.numbers_at = len(header) - 8
        self.dimension, self.count = empty.d, 0
        self.file = open(path, "wb")  # noqa: SIM115, closed in __exit__
        self.file.write(header)

    def append(self, codes_ND: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(codes_ND, np.float32).data)
        self.count += len(codes_ND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for place, number in ((self._ROWS_AT, self.count), (self.numbers_at, self.count * self.dimension)):
            self.file.seek(place)
            self.file.write(np.int64(number).tobytes())
        self.file.close()
