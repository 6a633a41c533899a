"""Readers of text files: see `base.Reader` for what they share, `files.reader_for` for which one reads what."""

from data_prep.readers.arrow import ArrowStream, Parquet
from data_prep.readers.base import Piece, Problems, Reader, find_columns, listed
from data_prep.readers.chunks import COMPRESSIONS, first_line
from data_prep.readers.delimited import Delimited
from data_prep.readers.files import files_not_read, find_files, reader_for, shortened
from data_prep.readers.hub import hub_files, is_saved_dataset
from data_prep.readers.json_lines import JsonLines
from data_prep.readers.lines import Lines

__all__ = [
    "COMPRESSIONS",
    "ArrowStream",
    "Delimited",
    "JsonLines",
    "Lines",
    "Parquet",
    "Piece",
    "Problems",
    "Reader",
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
