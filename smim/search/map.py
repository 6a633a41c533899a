"""A map of an index: sentences as points in the plane, similar ones close together, stored beside the index.

    DIR/map.arrow      the ids of up to 20,000 sentences, ascending, and their places x and y, 0 to 1

A map stays valid after changes of the index: deleted sentences are left out, new ones are placed at their nearest.

Shapes: N sentences of the map, M other codes, D latent dimensions.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

from smim import storage
from smim.arrow import check_batch, first_line, open_rows
from smim.errors import UserError, refuse_if
from smim.search.ids import LARGEST_ID
from smim.search.manifest import Manifest
from smim.search.sample import spread
from smim.search.snapshot import Snapshot, open_newest

FILE = "map.arrow"
POINTS = 20_000
METHODS = ("t-SNE", "PCA")
# t-SNE preserves neighbours, and this many principal components preserve them too.
_COMPONENTS, _PERPLEXITY, _STEPS = 50, 30.0, 500
_AXES_FROM = 4_000  # sentences
_NEIGHBOURS = 5
FEWEST = 4  # sentences of a layout
_CHANGED = 0.1
_NUMBERS = ("version", "count", "points")
_SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float32()), ("y", pa.float32())])


@dataclass(frozen=True)
class Map:
    """`ids_N`, ascending, and the places of their sentences, fp32 [N, 2], 0 to 1.

    `version` and `count` are those of the index at layout time, `points` the number of points then, and `model_hash`
    that of the model that made the codes.
    """

    version: int
    count: int
    points: int
    model_hash: str
    method: str
    ids_N: np.ndarray
    places_N2: np.ndarray

    def of(self, snapshot: Snapshot) -> "Map":
        """The map without sentences that the index no longer holds."""
        numbers, _ = snapshot.places_of(self.ids_N)
        return replace(self, ids_N=self.ids_N[numbers >= 0], places_N2=self.places_N2[numbers >= 0])

    def is_fit(self, manifest: Manifest) -> bool:
        """Whether the map still shows the index: same model, and at most a tenth deleted or added since."""
        kept = len(self.ids_N) >= (1 - _CHANGED) * self.points
        return kept and manifest.count <= (1 + _CHANGED) * self.count and self.model_hash == manifest.model_hash


class Placing:
    """Places other codes on a map: at the mean of their 5 nearest points, weighted by 1 / distance^2."""

    def __init__(self, map: Map, codes_ND: np.ndarray) -> None:
        """Index the codes of the map's sentences, `codes_ND`, fp32."""
        self._places_N2 = map.places_N2
        self._index = faiss.IndexFlatL2(codes_ND.shape[1])
        self._index.add(codes_ND)

    def place(self, codes_MD: np.ndarray) -> np.ndarray:
        """The places of codes, fp32 [M, 2]; a sentence of the map gets its own place."""
        squares, nearest = self._index.search(codes_MD, min(_NEIGHBOURS, self._index.ntotal))
        weights = 1 / (np.maximum(squares, 0) + 1e-9)
        weights /= weights.sum(1, keepdims=True)
        return (weights[..., None] * self._places_N2[nearest]).sum(1).astype(np.float32)


def lay_out(snapshot: Snapshot, *, points: int = POINTS, method: str = "t-SNE") -> Map:
    """Lay out a map of at most `points` sentences, evenly spread: by t-SNE, or on the first two principal components.

    t-SNE of 20,000 takes nearly three minutes on one core. Raises `UserError` if scikit-learn is not installed.
    """
    refuse_if({f"a map cannot have {points} points; 1 to 1,000,000 are allowed": not 1 <= points <= 1_000_000})
    numbers, positions = spread(snapshot, points)
    ids = np.array([snapshot.segments[n].ids[p] for n, p in zip(numbers, positions, strict=True)], np.int64)
    order = np.argsort(ids)
    codes = snapshot.codes(numbers[order], positions[order])
    manifest = snapshot.manifest
    if len(codes) < FEWEST:
        places, method = np.tile(np.linspace(0.1, 0.9, len(codes))[:, None], 2), "PCA"
    else:
        centred = codes - codes.mean(0)
        some = np.linspace(0, len(codes) - 1, min(_AXES_FROM, len(codes))).astype(int)
        _, _, axes = np.linalg.svd(centred[some], full_matrices=False)
        reduced = centred @ axes[:_COMPONENTS].T
        places = _tsne(reduced) if method == "t-SNE" else reduced[:, :2]
    low, high = (places.min(0), places.max(0)) if len(places) else (0.0, 1.0)
    places = ((places - low) / np.maximum(high - low, 1e-9)).astype(np.float32)
    return Map(manifest.version, manifest.count, len(ids), manifest.model_hash, method, ids[order], places)


def _tsne(codes: np.ndarray) -> np.ndarray:
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError:
        raise UserError("a map by t-SNE needs scikit-learn; install it with `pip install scikit-learn`") from None
    perplexity = min(_PERPLEXITY, (len(codes) - 1) / 3)
    return TSNE(init="pca", random_state=0, perplexity=perplexity, max_iter=_STEPS).fit_transform(codes)


def write(map: Map, path: Path | str) -> None:
    """Write a map to a temporary file, and rename it to `path`."""
    numbers = {name: str(getattr(map, name)) for name in _NUMBERS}
    about = {**numbers, "model_hash": map.model_hash, "method": map.method}
    columns = [pa.array(map.ids_N), pa.array(map.places_N2[:, 0]), pa.array(map.places_N2[:, 1])]
    schema = _SCHEMA.with_metadata(about)
    with storage.new_file(path) as partial, pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, schema) as to:
        to.write_batch(pa.record_batch(columns, schema=schema))


def read(path: Path | str) -> Map | None:
    """Read the map at `path`, None if there is none. Raises `UserError` if the file is not a map."""
    path = Path(path)
    if not path.exists():
        return None
    storage.check_regular(path)
    damaged = UserError(f"{path} is not a map; make it again with `smim index map`")
    rows = open_rows(path)
    try:
        known = {name.decode(): value.decode() for name, value in (rows.schema.metadata or {}).items()}
        if not rows.schema.equals(_SCHEMA) or rows.num_record_batches != 1:
            raise damaged
        batch = check_batch(rows.get_batch(0))
        ids, x, y = (batch.column(name).to_numpy() for name in _SCHEMA.names)
        version, count, points = (int(known[name]) for name in _NUMBERS)
        about = known["model_hash"], known["method"]
        found = Map(version, count, points, *about, ids, np.stack([x, y], 1))
    except UserError:
        raise damaged from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); make it again with `smim index map`") from None
    inside = np.isfinite(found.places_N2).all() and (np.diff(ids) > 0).all() and (ids >= 0).all()
    if not inside or (ids > LARGEST_ID).any() or found.method not in METHODS:
        raise damaged
    return found


def main() -> None:
    """Run `python -m smim.search.map INDEX FILE POINTS`, by which a service makes a map at low priority."""
    index, file, points = sys.argv[1:]
    os.nice(10)
    snapshot, _ = open_newest(Path(index))
    write(lay_out(snapshot, points=int(points)), file)


if __name__ == "__main__":
    main()
