"""Readers of text files. `base.Reader` is their interface, and `files.reader_for` finds the reader for a file."""

from smim.preparation.readers.arrow import ArrowStream, Parquet
from smim.preparation.readers.base import COMPRESSIONS, ChangedReader, Piece, Reader, find_columns, listed
from smim.preparation.readers.chunks import first_line
from smim.preparation.readers.delimited import Delimited
from smim.preparation.readers.files import (
    by_split,
    check_names,
    files_below,
    files_not_read,
    find_files,
    reader_for,
    shortened,
)
from smim.preparation.readers.hub import SPLITS, hub_files, is_saved_dataset
from smim.preparation.readers.json_lines import JsonLines
from smim.preparation.readers.lines import Lines

__all__ = [
    "COMPRESSIONS",
    "SPLITS",
    "ArrowStream",
    "ChangedReader",
    "Delimited",
    "JsonLines",
    "Lines",
    "Parquet",
    "Piece",
    "Reader",
    "by_split",
    "check_names",
    "files_below",
    "files_not_read",
    "find_columns",
    "find_files",
    "first_line",
    "hub_files",
    "is_saved_dataset",
    "listed",
    "reader_for",
    "shortened",
]
