"""The examples of the documentation run as they are written."""

import json
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import smim
from smim.evaluation.semantic_sets import read_sets
from smim.evaluation.semantics import measure
from smim.search.encode import EncodeArgs, encode_corpus
from smim.text.corpus import Corpus

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


def output_of(
    example: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The lines that the example prints."""
    monkeypatch.setattr(sys, "argv", [example, *arguments])
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_a_dataset_gets_codes_and_finds_the_query_itself(
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    texts = Corpus.open(tiny_corpus).split("train").texts()
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    arguments = [str(tiny_model), str(tmp_path / "texts.jsonl"), texts[7]]
    lines = output_of("encode_datasets.py", arguments, monkeypatch, capsys)
    assert lines[0] == "40 sentences, columns text, code, 8 dimensions"
    assert lines[3].split(maxsplit=1) == ["0.000", texts[7]]
    assert len(lines) == 3 + 5 + 2 + 5


def test_a_vector_database_is_fed_from_latents_and_finds_the_query_itself(
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("qdrant_client")
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "latents", args=EncodeArgs(rows_per_shard=16))
    text = Corpus.open(tiny_corpus).split("train").texts([33])[0]
    arguments = [*map(str, (tiny_model, tiny_corpus, tmp_path / "latents")), text]
    arguments += ["--database", str(tmp_path / "database")]
    first, second = (output_of("vector_database.py", arguments, monkeypatch, capsys) for _ in range(2))
    assert first == second  # the second time the sentences are there
    assert first[0].startswith("40 sentences of 8 dimensions")
    assert first[1].split(maxsplit=1) == ["0.000", text]
    assert sum(line.startswith("   decoded: ") for line in first) == 5


def test_mteb_measures_what_the_evaluation_does(
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("mteb")
    from smim.sentence_transformer import export

    texts = Corpus.open(tiny_corpus).split("train").texts()
    lines = [f"{row % 7}\t{one}\t{other}" for row, (one, other) in enumerate(pairwise(texts))]
    (tmp_path / "near-dev.tsv").write_text("\n".join(lines))
    export(tiny_model, tmp_path / "exported", similarity="cosine")
    [line] = output_of(
        "mteb_local.py", [*map(str, (tmp_path / "exported", tmp_path / "near-dev.tsv"))], monkeypatch, capsys
    )
    found = measure(smim.load(tiny_model, device="cpu").encode, read_sets(tmp_path / "near-dev.tsv"))
    assert line.split() == ["near-dev", "cosine_spearman", f"{found['spearman:near-dev'].value:.4f}"]
