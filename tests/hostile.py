"""Directories as somebody would hand them over to do harm: real ones with something changed, by a seed.

    python tests/hostile.py KIND[,KIND...] MATERIAL FIRST COUNT

Each case copies `MATERIAL/KIND*`, changes one thing, makes the checksums anew, and opens and uses the copy in a process
of its own. A line of JSON a case says what came of it: `refused`, `answers`, or what must not be: another exception, a
signal, more than ten seconds, more than 400 MB, or a change outside of the directory.
"""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

_SECONDS, _BYTES = 10, 400 * 2**20
_DEEP, _DIGITS = "@deep@", "@digits@"
_RAW = {_DEEP: "[" * 200_000 + "]" * 200_000, _DIGITS: "9" * 5000}
_VALUES: list[Any] = [
    *(None, True, "", "__class__", "../other/00000001", "/etc/hostname", "a\0b", "\ud800", "x" * 5000, [], {}, [None]),
    *(-1, 0, 1, 2, 41, 20_000_000, 10**9, 2**31, 2**62, 2**63, 10**30, 0.5, -1e308, 1e308, float("nan"), float("inf")),
    *(_DEEP, _DIGITS),
]
_NUMBERS = [0, 1, 7, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]


def change(directory: Path, rng: random.Random) -> str:
    """Changes one thing of a directory, makes its checksums anew, and says what it was."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix not in (".md", ".png"))
    cards = [path for path in files if path.suffix == ".json"]
    others = [path for path in files if path.suffix in (".faiss", ".npy", ".arrow", ".safetensors", ".model")]
    how = rng.random()
    if how < 0.5:
        path, what = rng.choice(cards), ""
        content = json.loads(path.read_text())
        what = _change_field(content, rng)
        _write(path, content)
    elif how < 0.85 and others:
        path = rng.choice(others)
        what = _change_bytes(path, rng)
    else:
        path = rng.choice(files)
        what = _replace(path, directory.parent / "other" / path.relative_to(directory), rng)
    if what.startswith("bytes") or how < 0.5:
        _seal(directory)
    return f"{path.relative_to(directory)}: {what}"


def _change_field(content: Any, rng: random.Random) -> str:
    place, trail = content, ""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if isinstance(place, dict) and rng.random() < 0.08:
            place["extra"] = rng.choice(_VALUES)
            return f"{trail}.extra"
        key = rng.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
            place, trail = inner, f"{trail}.{key}"
            continue
        if isinstance(place, dict) and rng.random() < 0.1:
            del place[key]
            return f"{trail}.{key} missing"
        value = rng.choice(_VALUES)
        if isinstance(inner, int) and not isinstance(inner, bool) and rng.random() < 0.5:
            value = rng.choice([inner + 1, inner - 1, inner * 2, -inner, float(inner), str(inner)])
        place[key] = value
        return f"{trail}.{key} = {str(value)[:40]!r}"


def _change_bytes(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    if rng.random() < 0.15:
        path.write_bytes(content[: rng.randrange(len(content))])
        return "bytes truncated"
    if rng.random() < 0.1:
        path.write_bytes(rng.randbytes(len(content)))
        return "bytes of noise"
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.choice([rng.randrange(len(content)), rng.randrange(min(512, len(content)))])
        width = rng.choice([1, 4, 8])
        number = rng.choice(_NUMBERS) if width > 1 else rng.randrange(256)
        new = (number % 2 ** (8 * width)).to_bytes(width, "little")
        content[at : at + width] = new[: len(content) - at]
    path.write_bytes(content)
    return "bytes overwritten"


def _replace(path: Path, other: Path, rng: random.Random) -> str:
    kind = rng.choice(["pipe", "directory", "link", "dangling link", "missing", "empty", "device"])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "dangling link":
        path.symlink_to("/tmp/smim-there-is-no-such-file")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "empty":
        path.write_bytes(b"")
    return kind


def _write(path: Path, content: Any) -> None:
    text = json.dumps(content)
    for mark, raw in _RAW.items():
        text = text.replace(json.dumps(mark), raw)
    path.write_text(text)


def _seal(directory: Path) -> None:
    """Makes the checksums anew that somebody who changes a directory can make anew."""
    for path in sorted(directory.rglob("*.json"), key=lambda path: -len(path.parts)):
        with suppress(Exception):  # of what is no longer of the form
            content = json.loads(path.read_text())
            folder = path.parent
            if path.name == "tokenizer.json" and "file" in content:
                model = (folder / "sentencepiece.model").read_bytes()
                content["hash"] = hashlib.sha256(model + content.get("prefix", "").encode()).hexdigest()
            elif path.name == "tokenizer.json":
                described = json.dumps(["word", content["splitter"], content["words"]], ensure_ascii=False)
                content["hash"] = hashlib.sha256(described.encode()).hexdigest()
            elif path.name == "config.json":
                content["weights_sha256"] = _sha256(folder / "model.safetensors")
                with suppress(OSError, KeyError):
                    content["tokenizer_hash"] = json.loads((folder / "tokenizer/tokenizer.json").read_text())["hash"]
            elif path.name == "judge.json":
                content["counts_sha256"] = _sha256(folder / "counts.safetensors")
                content["tokenizer_hash"] = json.loads((folder / "tokenizer/tokenizer.json").read_text())["hash"]
            elif path.name == "tzk.json":
                content["weights_sha256"] = _sha256(folder / "prior.safetensors")
                for label in directory.rglob("knowledge.json"):
                    card = json.loads(label.read_text())
                    card["prior_sha256"] = content["weights_sha256"]
                    card["weights_sha256"] = _sha256(label.parent / "knowledge.safetensors")
                    label.write_text(json.dumps(card))
            elif path.name == "corpus.json":
                for split, described in content["splits"].items():
                    for shard in described["shards"]:
                        file = folder / split / shard["file"]
                        shard |= {"bytes": file.stat().st_size, "sha256": _sha256(file)}
                with suppress(OSError, KeyError):
                    content["tokenizer_hash"] = json.loads((folder / "tokenizer/tokenizer.json").read_text())["hash"]
            elif path.name == "latents.json":
                for shard in content["shards"]:
                    _describe_anew({folder / name: file for name, file in shard["files"].items()})
            elif path.name == "teacher.json":
                for held in [content, *(shard for split in content["splits"].values() for shard in split["shards"])]:
                    _describe_anew({folder / name: file for name, file in held["files"].items()})
            elif path.name == "manifest.json" and "segments" in content:
                for segment in content["segments"]:
                    places = {
                        n: folder if n == segment["deleted"] else folder / segment["name"] for n in segment["files"]
                    }
                    _describe_anew({places[name] / name: file for name, file in segment["files"].items()})
                content.pop("sha256", None)
                content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            elif path.name == "manifest.json":
                for name, file in content["files"].items():
                    file |= {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
            path.write_text(json.dumps(content))


def _describe_anew(files: dict[Path, dict[str, Any]]) -> None:
    from smim import storage

    for path, described in files.items():
        described["bytes"] = path.stat().st_size
        described |= {"sha256": _sha256(path), "sampled_sha256": storage.sampled_sha256(path)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def use_index(directory: Path, material: Path) -> None:
    import smim
    from smim.search import IndexWriter, open_index

    model = smim.load(material / "model", device="cpu")
    index = open_index(directory, model=model)
    [hits] = index.search(["a bank sold shares"], k=5, ef_search=50, nprobe=4)
    assert all(isinstance(hit.text, str) and len(hit.labels) for hit in hits)
    index.count({"topic": "home"})
    index.search(["a bank sold shares"], k=2, where={"topic": ["home", "money"]})
    with IndexWriter(directory, model=model) as writer:
        writer.delete([hits[0].id])
        writer.add(["a bank sold shares"])
        writer.compact()
    index.search(["a bank sold shares"], k=2)


def use_model(directory: Path, material: Path) -> None:
    import smim
    from smim import vector_model
    from smim.errors import UserError

    try:
        model = smim.load(directory, device="cpu")
    except UserError as error:
        if "is a model of vectors" not in str(error):
            raise
        vectors = vector_model.load(directory)
        vectors.decode(vectors.encode([[0.5] * vectors.autoencoder.input_size]))
        return
    model.decode(model.encode(["a bank sold shares"]))
    model.sample(2)


def use_corpus(directory: Path, material: Path) -> None:
    from smim.corpora import open_corpus
    from smim.text.batches import training_order

    corpus = open_corpus(directory)
    for name in corpus.card["splits"]:
        split = corpus.split(name)
        for label in split.label_columns:
            split.labels(label)
        if "text" in split.table.column_names:
            split.texts()
            split.texts(range(min(3, len(split))))
        for start in range(0, len(split), 8):
            batch = split.batch(range(len(split))[start : start + 8])
            for each in (batch, batch.pair):
                assert getattr(each, "tokens", None) is None or int(each.tokens.max()) < corpus.input_size
        order: dict[str, Any] = {"batch_size": 8, "tokens_per_batch": None, "length_window": 1, "shuffle_window": 100}
        list(training_order(split, **order, seed=0, epoch=0))


def use_latents(directory: Path, material: Path) -> None:
    import numpy as np

    from smim.search.latents import Latents

    latents = Latents.open(directory)
    assert np.isfinite(latents.mean(range(len(latents)))).all()
    latents.log_variance(range(2))


def use_teacher(directory: Path, material: Path) -> None:
    from smim.text.corpus import Corpus

    corpus = Corpus.open(material / "corpus", teacher=directory)
    for split in map(corpus.split, corpus.card["splits"]):
        batch = split.batch(range(len(split)))
        assert batch.view is not None and bool(batch.view.isfinite().all())
    assert corpus.teacher is not None and len(corpus.teacher.pieces) == len(corpus.teacher.counts) == corpus.input_size


def use_tzk(directory: Path, material: Path) -> None:
    import smim
    from smim.tzk import open_tzk

    tzk = open_tzk(directory, model=smim.load(material / "model", device="cpu"))
    tzk.classify(["a bank sold shares"])
    tzk.sample(2, ["topic=home"])


def use_judge(directory: Path, material: Path) -> None:
    import numpy as np

    from smim.evaluation.judge import Judge

    nats, _ = Judge.open(directory).nats(["a bank sold shares", "never seen"])
    assert np.isfinite(nats).all()


def use_run(directory: Path, material: Path) -> None:
    from smim import config, train

    train.main(config.compose("train", [*json.loads((material / "run.json").read_text()), f"run.dir={directory}"]))


USES: dict[str, Callable[[Path, Path], None]] = {
    name.removeprefix("use_"): use for name, use in globals().items() if name.startswith("use_")
}


def try_case(kind: str, material: Path, seed: int) -> dict[str, Any]:
    """What comes of one case, in a process of its own."""
    rng = random.Random(f"{kind} {seed}")
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="hostile-"))
    source = rng.choice(sorted(path for path in material.glob(f"{kind}*") if path.is_dir()))
    for other in ("other", "copy"):
        shutil.copytree(source, root / other)
    what = change(root / "copy", rng)
    before = _contents(root / "other")
    told, write = os.pipe()
    child = os.fork()
    if child == 0:
        _in_child(kind, root / "copy", material, write)
    os.close(write)
    with os.fdopen(told) as file:
        outcome = file.read()
    _, status, used = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        outcome = "hangs" if number == signal.SIGALRM else f"crashes: {signal.Signals(number).name}"
    elif (used.ru_maxrss - _resident()) * 1024 > _BYTES:
        outcome = f"takes {used.ru_maxrss // 1024} MB: {outcome}"
    if _contents(root / "other") != before:
        outcome = "writes outside"
    shutil.rmtree(root)
    return {"seed": seed, "from": source.name, "change": what, "outcome": outcome}


def _in_child(kind: str, directory: Path, material: Path, write: int) -> None:
    from smim.errors import SmimError

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**31,) * 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    try:
        USES[kind](directory, material)
        outcome = "answers"
    except SmimError as error:
        outcome = f"refused: {str(error)[:300]}"
    except BaseException as error:
        outcome = f"raises {type(error).__name__}: {str(error)[:300]}"
    os.write(write, outcome.replace("\n", " ").encode("utf-8", "replace"))
    os._exit(0)


def _contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    kinds, place, first, count = sys.argv[1].split(","), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    # What a case needs is imported once; what it starts with must answer.
    for asked in kinds:
        for whole in sorted(path for path in place.glob(f"{asked}*") if path.is_dir()):
            with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null, redirect_stdout(null):
                USES[asked](Path(shutil.copytree(whole, Path(folder) / "copy")), place)
    for asked in kinds:
        for number in range(first, first + count):
            print(json.dumps(try_case(asked, place, number)), flush=True)
