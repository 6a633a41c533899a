"""Writes prepared corpora by hand, in the format that docs/architecture.md describes, for a tokenizer that is there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from smim import storage
from smim.text.corpus import CARD, FORMAT
from smim.text.tokenizer import Tokenizer

Row = Mapping[str, Any]


def write_corpus(
    output: Path,
    splits: Mapping[str, Sequence[Row]],
    tokenizer: Tokenizer,
    *,
    name: str,
    source: Mapping[str, Any] | None = None,
) -> None:
    """One shard a split; all rows of a split have the same columns, `pair_text` too where the corpus has pairs."""
    described = {}
    for split, rows in splits.items():
        path = output / split / "00000.arrow"
        path.parent.mkdir(parents=True)
        ids = [tokenizer.encode(row["text"]) for row in rows]
        lengths = [len(sentence) for sentence in ids]
        columns: dict[str, pa.Array] = {column: pa.array([row[column] for row in rows]) for column in rows[0]}
        columns |= {"ids": pa.array(ids, pa.list_(pa.int32())), "length": pa.array(lengths, pa.int32())}
        if "pair_text" in columns:
            pairs = [tokenizer.encode(row["pair_text"]) for row in rows]
            columns["pair_ids"] = pa.array(pairs, pa.list_(pa.int32()))
        table = pa.table(columns)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        shard = {"file": path.name, "sentences": len(rows), "bytes": path.stat().st_size}
        described[split] = {
            "sentences": len(rows),
            "tokens": sum(lengths),
            "shards": [{**shard, "sha256": storage.sha256(path)}],
        }
    tokenizer.save(output / "tokenizer")
    card = {
        "format": FORMAT,
        "name": name,
        "source": dict(source or {}),
        "notes": [],
        "left_out": {},
        "tokenizer": {"kind": tokenizer.kind},
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokenizer_hash": tokenizer.hash,
        **({"pair_column": "pair"} if any("pair_text" in rows[0] for rows in splits.values()) else {}),
        "splits": described,
    }
    storage.write_json(output / CARD, card)
