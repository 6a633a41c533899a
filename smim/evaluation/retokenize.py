"""Encoding of a prepared split with another tokenizer, to evaluate a model on another corpus."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from smim import storage
from smim.text.corpus import Split
from smim.text.tokenizer import UNK_ID, Tokenizer

_ROWS_AT_ONCE = 10_000


def retokenize(split: Split, tokenizer: Tokenizer, path: Path) -> None:
    """Write `split` with the `ids` and `length` of `tokenizer` to `path`, an Arrow stream. Text and labels are kept."""
    schema = split.table.schema
    with storage.new_file(path) as partial, pa.ipc.new_stream(str(partial), schema) as writer:
        for batch in split.table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            ids = tokenizer.encode_batch(batch.column("text"))
            own = {"ids": ids, "length": ids.value_lengths()}
            if split.has_pairs:
                own["pair_ids"] = tokenizer.encode_batch(batch.column("pair_text"))
            columns = [own.get(name, batch.column(name)) for name in schema.names]
            columns = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def open_retokenized(name: str, path: Path) -> Split:
    """Open the split that `retokenize` wrote."""
    return Split(name=name, table=pa.ipc.open_stream(pa.memory_map(str(path))).read_all())


def unknown_share(split: Split) -> float:
    """Compute the share of a split's tokens that are `<unk>`."""
    return pc.mean(pc.equal(pc.list_flatten(split.table.column("ids")), UNK_ID)).as_py() or 0.0
