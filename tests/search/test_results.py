"""Hits as tables, and searches for many sentences."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset
from typer.testing import CliRunner

from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, Query, index_texts
from smim.search import index as index_module

QUERIES = ["a bank sold shares", "her brother lost a small house", "the new law"]


def test_results_are_tables_of_their_hits(index: Index) -> None:
    results = index.search(QUERIES, k=3)
    table = results.to_arrow()
    assert table.column_names == ["query", "rank", "id", "text", "distance", "similarity", "words", "topic"]
    rows = table.to_pylist()
    assert [(row["query"], row["rank"]) for row in rows] == [(query, rank) for query in range(3) for rank in (1, 2, 3)]
    for row in rows:
        hit = results[row["query"]][row["rank"] - 1]
        shown = (row["id"], row["text"], row["distance"], row["similarity"], row["words"], row["topic"])
        assert shown == (hit.id, hit.text, hit.distance, hit.similarity, hit.words, hit.labels["topic"])
    frame = results.to_pandas()
    assert isinstance(frame, pd.DataFrame) and frame["id"].tolist() == [row["id"] for row in rows]
    assert Dataset(table).num_rows == 9
    more = index.search(QUERIES, k=3, mode="hybrid", fold="words", reconstruct=True).to_arrow().column_names
    assert {"count", "ids", "code_similarity", "word_similarity", "reconstruction"} <= set(more)


def test_a_table_of_no_hit_has_its_columns(index: Index) -> None:
    table = index.search(QUERIES[:1], where={"topic": "none such"}).to_arrow()
    assert table.num_rows == 0 and table.column_names == ["query", "rank", "id", "text", "distance", "similarity"]


def test_a_label_that_is_called_as_a_field_keeps_apart(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = index_texts(model, QUERIES, tmp_path / "index", model_dir=tiny_model, labels={"rank": [7, 8, 9]})
    [row] = index.search(["the new law"], k=1).to_arrow().to_pylist()
    assert (row["rank"], row["label_rank"]) == (1, 9)


def test_sentences_may_be_columns_of_tables(index: Index) -> None:
    expected = index.search(QUERIES, k=3)
    table = pa.table({"text": QUERIES})
    columns = [pa.array(QUERIES), table["text"], pd.Series(QUERIES), pd.Series(QUERIES).to_numpy(object)]
    for column in [*columns, Dataset(table)["text"], tuple(QUERIES)]:
        assert index.search(column, k=3) == expected
    with pytest.raises(UserError, match="the sentences must be in a list"):
        index.search(pa.array([1, 2]))


def test_a_stream_has_the_answers_of_one_search(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_HITS_AT_ONCE", 8)  # two queries of four hits
    read: list[str] = []

    def sentences():
        for i in range(6):
            read.append(QUERIES[i % 3])
            yield QUERIES[i % 3]

    stream = index.stream(sentences(), k=4, mode="hybrid")
    assert not read
    first = next(stream)
    assert len(read) == 2
    rest = [first, *stream]
    expected = index.search(QUERIES, k=4, mode="hybrid")
    assert [[hit.id for hit in hits] for hits in rest] == 2 * [[hit.id for hit in hits] for hits in expected]
    [mixed] = index.stream([Query(id=3)], k=2)
    assert mixed == index.more_like([3], k=2)[0]


def test_the_command_line_searches_for_the_lines_of_a_file(index: Index, tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("\n".join([QUERIES[0], "", *QUERIES[1:]]) + "\n")
    command = ["search", str(index.directory), "--queries", str(tmp_path / "queries.txt"), "-k", "2", "--hybrid"]
    lines = CliRunner().invoke(app, command).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    expected = index.search(QUERIES, k=2, mode="hybrid")
    assert [each["query"] for each in found] == QUERIES
    assert [[hit["id"] for hit in each["hits"]] for each in found] == [[hit.id for hit in hits] for hits in expected]
    for more in (["a bank"], ["--decode"], ["--like", "3"], ["--plus", "a bank"]):
        assert isinstance(CliRunner().invoke(app, [*command, *more]).exception, UserError)
