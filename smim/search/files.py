"""Write arrays and FAISS's exact index to files piece by piece, and open FAISS's files."""

import threading
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import DTypeLike

from smim.errors import UserError

# `Snapshot.open` computes the table that is skipped here.
_FLAGS = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
_FAISS_LIMITS = threading.Lock()


def open_vectors(path: Path) -> Any:
    """Open a FAISS index file; raises `UserError` for other files, before it allocates more than the file holds.

    FAISS checks that the parts of an index fit together, and that its graphs and lists stay inside of them.
    """
    size = path.stat().st_size
    with _FAISS_LIMITS:  # the process's
        faiss.set_deserialization_vector_byte_limit(size)
        faiss.set_deserialization_loop_limit(size)
        try:
            return faiss.read_index(str(path), _FLAGS)
        except (RuntimeError, MemoryError) as error:
            raise UserError(f"{path} is not an index of FAISS ({str(error).splitlines()[0][:200]})") from None


def array_file(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> BinaryIO:
    """Open a new `.npy` file of this type and shape; the caller writes the bytes of its rows."""
    file = open(path, "wb")  # noqa: SIM115, closed by the caller
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def flat_file(path: Path, empty: Any, count: int) -> BinaryIO:
    """Open a new file of FAISS's exact index; the caller writes the bytes of `count` vectors.

    Adding vectors to the index itself would hold all of them in memory. `empty` is an index without vectors. Its file
    has two counts: of vectors, and at the end of numbers.
    """
    header = faiss.serialize_index(empty)
    header[8:16] = np.frombuffer(np.int64(count).tobytes(), np.uint8)
    header[-8:] = np.frombuffer(np.int64(count * empty.d).tobytes(), np.uint8)
    file = open(path, "wb")  # noqa: SIM115, closed by the caller
    file.write(header.tobytes())
    return file
