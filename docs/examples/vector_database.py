r"""A vector database fed from latents: search there, decode what it finds. Qdrant, in this process, in a folder.

    pip install qdrant-client
    python docs/examples/vector_database.py demo/smim/model demo/corpus demo/latents \
        "some geese will be attacked by the snake at noon ."

`demo/latents` holds the codes of one of the corpus's splits (docs/ecosystem.md says how to make them). The folder is
for up to 20,000 sentences; for more, `QdrantClient(url=...)` of a server.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

import smim
from smim.search.latents import Latents
from smim.text.corpus import Corpus, Split

DISTANCES = {"l2": Distance.EUCLID, "cosine": Distance.COSINE, "inner_product": Distance.DOT}


def points(latents: Latents, split: Split) -> Iterator[PointStruct]:
    """A point for each row, which is its id: code and text, read part by part."""
    for start in range(0, len(latents), 1000):
        rows = range(start, min(start + 1000, len(latents)))
        for row, code, text in zip(rows, latents.mean(rows), split.texts(rows), strict=True):
            yield PointStruct(id=row, vector=code.tolist(), payload={"text": text})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "corpus", "latents", "query"):
        parser.add_argument(name)
    parser.add_argument("--database", default="qdrant_demo", help="a folder")
    args = parser.parse_args()
    model, latents = smim.load(args.model), Latents.open(args.latents)
    split = Corpus.open(args.corpus).split(latents.split)

    client = QdrantClient(path=args.database)
    if not client.collection_exists("sentences"):
        # As the model's codes are compared; the text goes along as the payload.
        space = VectorParams(size=latents.dimension, distance=DISTANCES[model.use.metric])
        client.create_collection("sentences", vectors_config=space)
    if client.count("sentences").count < len(latents):
        client.upload_points("sentences", points(latents, split), batch_size=1000)
    print(f"{client.count('sentences').count:,} sentences of {latents.dimension} dimensions in {args.database}")

    query = model.encode([args.query], allow_unknown=False)[0]
    hits = client.query_points("sentences", query=query.tolist(), limit=5).points
    # From the latents: where codes are compared by cosine, the database keeps them at length one.
    decoded = model.decode(latents.mean(np.array([hit.id for hit in hits])))
    for hit, sentence in zip(hits, decoded, strict=True):
        print(f"{hit.score:8.3f}  {hit.payload['text']}\n   decoded: {sentence}")
    client.close()


if __name__ == "__main__":
    main()
