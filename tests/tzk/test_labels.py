"""Which rows have a label, and of which nothing is known."""

import pyarrow as pa
import pytest

from smim.errors import UserError
from smim.text.corpus import Split
from smim.tzk.labels import Label, labelled_rows


def test_rows_without_a_value_neither_have_a_label_nor_lack_it():
    split = Split("train", pa.table({"text": ["a"] * 5, "stars": ["5", None, "1", None, "5"]}))
    found = labelled_rows(split, Label("stars", "5"), "sentences")
    assert (found.present.tolist(), found.absent.tolist(), found.frequency) == ([0, 4], [2], 2 / 3)
    assert split.labels("stars") == ["5", None, "1", None, "5"]


def test_a_label_that_all_rows_with_a_value_have_is_not_learned():
    split = Split("train", pa.table({"text": ["a"] * 2, "stars": ["5", None]}))
    with pytest.raises(UserError, match="also has sentences without it"):
        labelled_rows(split, Label("stars", "5"), "sentences")
