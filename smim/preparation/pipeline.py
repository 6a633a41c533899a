"""The pipeline from a recipe to a corpus: read, select, make the tokenizer, encode, and rename the result.

In the working directory (`smim/work.py`), `checksums/`, `rows/`, `words/` and `encoded/` have the results of finished
tasks (see reading, splitting and encoding). `result/` becomes the corpus.

The borders of pieces and parts depend only on the inputs, not on the number of workers. The output depends only on the
plan. Files of finished tasks are not written again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from smim import storage
from smim.engine import Engine, EngineArgs, open_engine, run_all
from smim.errors import UserError
from smim.preparation import selection
from smim.preparation.args import CorpusArgs, as_paths
from smim.preparation.encoding import EncodeTask, Statistics, encode_part, statistics_of
from smim.preparation.plots import length_histograms
from smim.preparation.readers import Piece, check_names, shortened
from smim.preparation.reading import Part, ReadTask, read_piece
from smim.preparation.recipe import Input, Recipe
from smim.preparation.vocabulary import make_tokenizer
from smim.preparation.without import describe, without_files
from smim.text.corpus import CARD, FORMAT, HISTOGRAM
from smim.text.tokenizer import Tokenizer
from smim.waiting import doing
from smim.work import WorkDirectory

# Increase it when a code change alters the output's bytes.
_VERSION = 3

_PARTS_WANTED = 64
_LEAST_PART_BYTES, _MOST_PART_BYTES = 1 << 20, 64 << 20


@dataclass(frozen=True)
class PrepArgs(EngineArgs):
    """The engine that runs preparation (`prep.` on the command line)."""

    section = "prep"
    task_size = "corpus.shard_bytes"


def build(recipe: Recipe, args: CorpusArgs, output: Path, prep: PrepArgs) -> dict[str, Any]:
    """Build a corpus at `output` and return its card.

    Raises `UserError` for bad input. Then an older corpus at `output` is unchanged, and no new files remain beside it.
    After a kill or a full disk, the same call continues where it stopped.
    """
    # Workers on another machine have a working directory of their own.
    inputs = tuple(each if each.generated else replace(each, path=each.path.absolute()) for each in recipe.inputs)
    recipe, output = replace(recipe, inputs=inputs), output.absolute()
    part_bytes = args.shard_bytes or _part_bytes(recipe)
    # Report files that cannot be opened before an engine starts, which may take long.
    pieces = [
        (each, piece) for each in recipe.inputs for piece in each.reader.pieces(each.path, piece_bytes=part_bytes)
    ]
    work = WorkDirectory(output, _plan(recipe, args), card=CARD, kind="a prepared corpus")
    with work.owned(), open_engine(prep) as engine:
        return _Build(recipe, args, work, engine).run(pieces, part_bytes)


class _Build:
    def __init__(self, recipe: Recipe, args: CorpusArgs, work: WorkDirectory, engine: Engine) -> None:
        self.recipe, self.args, self.engine = recipe, args, engine
        self.work, self.corpus = work.path, work.result
        self.left_out: Counter[str] = Counter()
        self.without = without_files(as_paths(args.without))

    def run(self, pieces: Sequence[tuple[Input, Piece]], part_bytes: int) -> dict[str, Any]:
        """Run all steps. The `pieces` of the inputs have about `part_bytes`."""
        files = self.describe_files()
        parts = self.read(pieces, part_bytes)
        doing("drawing the splits")
        splits = self.select(parts)
        doing("making the tokenizer")
        train, words = self.recipe.splits.index("train"), self.work / "words"
        tokenizer, tokenizer_card = make_tokenizer(
            self.args.tokenizer, parts, splits, train=train, engine=self.engine, folder=words
        )
        tokenizer.save(self.corpus / "tokenizer")
        described, statistics = self.encode(parts, splits, tokenizer)
        card = {
            "format": FORMAT,
            "name": self.args.name,
            "source": {"files": files, **self._options(), **self.recipe.facts},
            "notes": [
                *self.recipe.notes,
                *(
                    f"a stand-in: {split} has {described[split]['sentences']:,} sentences, the original has {size:,}"
                    for split, size in self.recipe.expected.items()
                    if described[split]["sentences"] < size
                ),
            ],
            "left_out": {name: count for name, count in sorted(self.left_out.items()) if count},
            "tokenizer": tokenizer_card,
            "vocabulary_size": tokenizer.vocabulary_size,
            "tokenizer_hash": tokenizer.hash,
            **({"pair_column": self.recipe.pair_column} if self.recipe.pair_column else {}),
            "splits": described,
        }
        doing("drawing the lengths")
        length_histograms(
            {split: each.lengths for split, each in statistics.items()}, self.corpus / HISTOGRAM, name=self.args.name
        )
        storage.write_json(self.corpus / CARD, card)
        return card

    def describe_files(self) -> list[dict[str, Any]]:
        """Return the name, size and SHA-256 of the input files."""
        paths = list(dict.fromkeys(each.path for each in self.recipe.inputs if not each.generated))
        folder = self.work / "checksums"
        tasks = [(path, folder / f"{number:05d}.json") for number, path in enumerate(paths)]
        described = run_all(self.engine, _checksum, tasks, "checksums", [path.stat().st_size for path in paths])
        self._check_apart(paths, described)
        return described

    def _check_apart(self, paths: Sequence[Path], described: Sequence[dict[str, Any]]) -> None:
        """Raise `UserError` if copies of one file are in several pools under different names."""
        pools = {each.path: each.pool for each in self.recipe.inputs}
        seen: dict[str, Path] = {}
        for path, found in zip(paths, described, strict=True):
            other = seen.setdefault(found["sha256"], path)
            if found["bytes"] and pools[other] != pools[path]:
                raise UserError(
                    f"{other} and {path} have the same content, but are given for {pools[other]} and {pools[path]}; "
                    f"splits must not overlap"
                )

    def read(self, pieces: Sequence[tuple[Input, Piece]], part_bytes: int) -> list[Part]:
        """Read all inputs into parts, in the order of the inputs."""
        recipe, args = self.recipe, self.args
        folder = self.work / "rows"
        folder.mkdir(exist_ok=True)
        tasks = [
            ReadTask(
                number=number,
                input=each,
                piece=piece,
                cleaning=recipe.cleaning[each.pool],
                label_columns=recipe.label_columns,
                pair_column=recipe.pair_column,
                draw_by=recipe.draw_by,
                without=self.without,
                part_bytes=part_bytes,
                skip_bad=args.on_error == "skip",
                folder=folder,
            )
            for number, (each, piece) in enumerate(pieces)
        ]
        # Pieces of a file have about the same size. A compressed file counts with its size on disk.
        per_file = Counter(task.piece.path for task in tasks)
        sizes = [0 if t.input.generated else t.piece.path.stat().st_size // per_file[t.piece.path] for t in tasks]
        described = run_all(self.engine, read_piece, tasks, "reading", sizes)
        for each in described:
            self.left_out.update(each["left_out"])
        parts = [
            Part(folder / part["file"], each["pool"], part["sentences"], part["text_bytes"])
            for each in described
            for part in each["parts"]
        ]
        columns = {column for each in described for column in each["columns"]}
        for setting, wanted in (("label_columns", set(recipe.label_columns)), ("pair_column", {recipe.pair_column})):
            if pieces and columns and (missing := sorted(filter(None, wanted - columns))):
                raise UserError(
                    f"no sentence has a column {', '.join(missing)}, which corpus.{setting} names; look into "
                    f"{shortened(sorted({str(each.path) for each in recipe.inputs}), 3)} for its right name"
                )
        return parts

    def select(self, parts: Sequence[Part]) -> list[np.ndarray]:
        """Select the split of each sentence: its number, uint8 [n] for each part."""
        numbers = {split: number for number, split in enumerate(self.recipe.splits)}
        splits: list[np.ndarray] = [np.empty(0, np.uint8)] * len(parts)
        for pool, draws in self.recipe.draws.items():
            places = [place for place, part in enumerate(parts) if part.pool == pool]
            if not places:
                files = shortened([str(each.path) for each in self.recipe.inputs if each.pool == pool], 3)
                counts = ", ".join(f"{count} {name}" for name, count in self.left_out.items())
                why = f" (left out: {counts})" if counts else ": the input is empty"
                raise UserError(f"no sentence in {files}{why}; nothing was written")
            keys = [parts[place].keys() for place in places]
            kept = [np.ones(len(part), bool) for part in keys]
            if self.args.deduplicate:
                kept = [~again for again in selection.duplicates([parts[place].hashes() for place in places])]
                self.left_out["duplicate"] += sum(int((~part).sum()) for part in kept)
            assigned = selection.assign(
                [part[rows] for part, rows in zip(keys, kept, strict=True)], draws, numbers, seed=self.args.seed
            )
            for place, rows, found in zip(places, kept, assigned, strict=True):
                splits[place] = np.full(len(rows), selection.UNUSED, np.uint8)
                splits[place][rows] = found
        for split, number in numbers.items():
            if not any((part == number).any() for part in splits):
                raise UserError(
                    f"split {split!r} of {self.args.name} has no sentences: the input is too short for its share. "
                    f"Give more text or a larger share; nothing was written"
                )
        return splits

    def encode(
        self, parts: Sequence[Part], splits: Sequence[np.ndarray], tokenizer: Tokenizer
    ) -> tuple[dict[str, Any], dict[str, Statistics]]:
        """Write all shards. Return each split's entry in the card, and its statistics."""
        (self.work / "encoded").mkdir(exist_ok=True)
        tasks = self._encode_tasks(parts, splits, tokenizer)
        described = run_all(self.engine, encode_part, tasks, "encoding", [task.part.text_bytes for task in tasks])
        card, statistics = {}, {}
        for number, split in enumerate(self.recipe.splits):
            entries = [each[str(number)] for each in described if str(number) in each]
            statistics[split] = sum(map(statistics_of, entries), Statistics())
            self.left_out["no_tokens"] += statistics[split].no_tokens
            if not statistics[split].sentences:
                raise UserError(
                    f"split {split!r} of {self.args.name} has no sentences: the tokenizer finds no token in any of its "
                    f"{statistics[split].no_tokens:,} sentences; nothing was written"
                )
            shards = [{key: entry[key] for key in ("file", "sentences", "bytes", "sha256")} for entry in entries]
            card[split] = {**statistics[split].describe(), **self._overlap(number, parts, splits), "shards": shards}
        return card, statistics

    def _encode_tasks(
        self, parts: Sequence[Part], splits: Sequence[np.ndarray], tokenizer: Tokenizer
    ) -> list[EncodeTask]:
        tasks, num_shards = [], Counter[str]()
        for part, found in zip(parts, splits, strict=True):
            shards = {}
            for number, split in enumerate(self.recipe.splits):
                if (found == number).any():
                    (self.corpus / split).mkdir(exist_ok=True)
                    shards[number] = self.corpus / split / f"{num_shards[split]:05d}.arrow"
                    num_shards[split] += 1
            if shards:
                tasks.append(
                    EncodeTask(
                        part=part,
                        splits=found,
                        shards=shards,
                        label_columns=self.recipe.label_columns,
                        has_pairs=self.recipe.pair_column is not None,
                        tokenizer=self.corpus / "tokenizer",
                        tokenizer_hash=tokenizer.hash,
                        words=self.work / "words",
                        folder=self.work / "encoded",
                    )
                )
        return tasks

    def _overlap(self, number: int, parts: Sequence[Part], splits: Sequence[np.ndarray]) -> dict[str, int]:
        """Count a split's sentences that are also in train. Shares of one pool, drawn by the text, have none."""
        train = self.recipe.splits.index("train")
        pools = [
            {pool for pool, draws in self.recipe.draws.items() if self.recipe.splits[each] in draws}
            for each in (number, train)
        ]
        of_one_pool = pools[0] == pools[1] and len(pools[0]) == 1
        are_shares = not any(isinstance(each, int) for pool in pools[0] for each in self.recipe.draws[pool].values())
        if number == train or (of_one_pool and are_shares and self.recipe.draw_by == "text"):
            return {}
        own = [p.hashes()[s == number, 0] for p, s in zip(parts, splits, strict=True)]
        training = (p.hashes()[s == train, 0] for p, s in zip(parts, splits, strict=True))
        return {"also_in_train": selection.count_in(np.concatenate(own), training)}

    def _options(self) -> dict[str, Any]:
        """The processing of sentences for the card, with cleaning by pool if pools differ."""
        cleaning = {pool: asdict(each) for pool, each in self.recipe.cleaning.items()}
        same = all(each == next(iter(cleaning.values())) for each in cleaning.values())
        return {
            "seed": self.args.seed,
            "deduplicate": self.args.deduplicate,
            **({"without": describe(self.without)} if self.without else {}),
            "cleaning": next(iter(cleaning.values())) if same else cleaning,
        }


def _part_bytes(recipe: Recipe) -> int:
    """Choose the size of parts: small enough for many cores, but without too many files."""
    total = sum(path.stat().st_size for path in {each.path for each in recipe.inputs if not each.generated})
    return min(max(total // _PARTS_WANTED, _LEAST_PART_BYTES), _MOST_PART_BYTES)


def _checksum(task: tuple[Path, Path]) -> dict[str, Any]:
    """Compute the checksum of a file, and keep it in a marker."""
    path, marker = task
    if marker.exists():
        return storage.read_json(marker)
    described = {"file": path.name, "bytes": path.stat().st_size, "sha256": storage.sha256(path)}
    storage.write_json(marker, described)
    return described


def _plan(recipe: Recipe, args: CorpusArgs) -> dict[str, Any]:
    """Collect everything that decides the output's bytes. Size and time of a file reveal changes."""
    files = {}
    inputs = [each.path for each in recipe.inputs if not each.generated]
    paths = [*inputs, *without_files(as_paths(args.without))]
    check_names(paths)
    for path in paths:
        state = path.stat()
        files[str(path)] = [state.st_size, state.st_mtime_ns]
    plan = {"version": _VERSION, "recipe": repr(recipe), "args": repr(args), "files": files}
    given = args.tokenizer.dir
    return plan if given is None else {**plan, "tokenizer_hash": Tokenizer.load(given).hash}
