r"""Codes as a column of a `datasets` dataset: map, nearest neighbours, and what lies between two of them.

    python docs/examples/encode_datasets.py demo/smim/model demo/test.jsonl \
        "some geese will be attacked by the snake at noon ."

Each line of the file is an object with `text`; any dataset of the hub with such a column does as well.
"""

import argparse

import numpy as np
from datasets import Dataset, load_dataset

import smim
from smim.search.factory import METRICS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("sentences")
    parser.add_argument("query")
    args = parser.parse_args()
    model = smim.load(args.model)

    # In this process: torch has its own threads, and the batches of `map` fill them.
    sentences: Dataset = load_dataset("json", data_files=args.sentences, split="train")
    coded = sentences.map(
        lambda batch: {"code": model.encode(batch["text"])}, batched=True, batch_size=1024, desc="encoding"
    )
    print(f"{len(coded):,} sentences, columns {', '.join(coded.column_names)}, {len(coded[0]['code'])} dimensions")

    # FAISS's exact index over the column, by the model's own metric: squared Euclidean distances, or similarities.
    metric = model.use.metric
    factory = "L2norm,Flat" if metric == "cosine" else "Flat"
    coded.add_faiss_index("code", string_factory=factory, metric_type=METRICS[metric])
    query = model.encode([args.query], allow_unknown=False)[0]
    scores, nearest = coded.get_nearest_examples("code", query, k=5)
    print(f"\nnearest to: {args.query} ({metric})")
    for score, text in zip(scores, nearest["text"], strict=True):
        print(f"{score:8.3f}  {text}")

    # The codes can be decoded: five sentences on the way to the farthest of the five.
    farthest = np.array(nearest["code"][-1], np.float32)
    path = [query + (farthest - query) * share for share in np.linspace(0, 1, 5, dtype=np.float32)]
    print("\non the way from the query to the last of them, decoded:")
    print("\n".join(model.decode(np.stack(path), literal=model.use.literal.interpolate)))


if __name__ == "__main__":
    main()
