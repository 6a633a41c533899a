import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import smim
from smim.search.manifest import Manifest
from smim.text.tokenizer import Tokenizer
from tests.commands import Command, Outcome, make_command
from tests.corpora import write_corpus
from tests.search.codes import index_of_codes
from tests.search.test_filters import LARGE


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return make_command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_corpus: Path) -> Path:
    from smim.search import build_index
    from smim.text.corpus import Corpus

    output = tmp_path_factory.mktemp("indexes") / "tiny"
    build_index(smim.load(tiny_model), Corpus.open(tiny_corpus), output, model_dir=tiny_model)
    return output


def process(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from smim.cli import main; main()", *map(str, args)], capture_output=True, text=True
    )


def test_user_mistake_prints_one_line_and_exits_2(tmp_path: Path) -> None:
    ended = process("search", tmp_path / "nowhere", "text")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ") and "is not an index" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_usage_error_exits_2_without_a_traceback() -> None:
    ended = process("search", "indexes/tiny", "text", "-k", "five")
    assert ended.returncode == 2
    assert "Invalid value for '-k'" in ended.stderr and "Traceback" not in ended.stderr


def test_help_does_not_wait_for_torch_or_faiss() -> None:
    code = "import sys, smim.cli; sys.exit(bool({'torch', 'faiss', 'pyarrow', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_command_has_an_example_in_its_help(command: Command) -> None:
    names = ["search", "serve", "encode", "export", "push", "doctor", "fit-prior", "teach"]
    names += ["reconstruct", "interpolate", "perturb", "arithmetic", "sample", "answer"]
    changes = [["index", name] for name in ("build", "add", "upsert", "delete", "compact", "verify", "report")]
    for words in [*changes, ["corpus", "show"], ["corpus", "table"], *[[name] for name in names]]:
        outcome = command(*words, "--help")
        assert outcome.status == 0
        shown = " ".join(outcome.out.split())
        assert re.search(rf"Examples?: smim {' '.join(words)}\b", shown)


@pytest.mark.parametrize("group", [[], ["index"], ["corpus"], ["tzk"], ["judge"]], ids=str)
def test_no_command_is_described_by_half_a_sentence(command: Command, group: list[str]) -> None:
    listed = command(*group, "--help").out.partition("Commands:")[2].splitlines()
    assert listed and not [line for line in listed if line.endswith("...")]


def test_a_shell_completes_commands() -> None:
    typed = {"_SMIM_COMPLETE": "complete_bash", "COMP_WORDS": "smim inte", "COMP_CWORD": "1"}
    asked = [sys.executable, "-c", "from smim.cli import main; main()"]
    completed = subprocess.run(asked, env={**os.environ, **typed}, capture_output=True, text=True)
    assert completed.stdout.split() == ["interpolate"]


def test_the_doctor_says_what_is_there_and_what_is_wrong(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(torch, "get_num_threads", lambda: len(os.sched_getaffinity(0)))
    monkeypatch.setattr(torch.version, "cuda", None)
    well = command("doctor")
    assert (well.status, well.out.splitlines()[-1]) == (0, "nothing is wrong")
    versions = (f"smim\t{smim.__version__}", f"torch\t{torch.__version__}")
    for shown in (*versions, "free disk\t1000.0 GB", "smim[serve]\tinstalled"):
        assert shown in well.out
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    ill = command("doctor")
    assert ill.status == 1
    assert [line.partition(" ")[0] for line in ill.out.splitlines()[-3:]] == ["wrong:"] * 3
    assert "https://download.pytorch.org/whl/cpu" in ill.out and "1.0 GB of disk are free" in ill.out


def test_version_is_printed(command: Command) -> None:
    assert command("--version") == Outcome(0, f"{smim.__version__}\n", "")


def test_index_is_built_and_searched(command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    built = command("index", "build", tiny_model, tiny_corpus, "-o", tmp_path / "index", "--split", "test")
    told = f"10 sentences in {tmp_path / 'index'}, from split test of {tiny_corpus}; choose another with --split\n"
    assert (built.status, built.out) == (0, told)
    [(sentence, topic)] = [cells[1:] for cells in _rows(tiny_corpus, "test")[:1]]
    found = command("search", tmp_path / "index", sentence, "-k", 3)
    assert found.status == 0
    assert [cells[0] for cells in found.cells] == ["1", "2", "3"]
    assert found.cells[0][1:] == ["0", "0.0000", "1.00", sentence, topic]


def test_a_file_of_sentences_is_indexed_as_it_is(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a bank sold shares\n\nthe team won a game\n")
    built = command("index", "build", tiny_model, tmp_path / "mine.txt", "-o", tmp_path / "index")
    assert (built.status, built.out) == (0, f"2 sentences in {tmp_path / 'index'}\n")
    found = command("search", tmp_path / "index", "the team won a game", "-k", 1)
    assert found.cells[0][1:] == ["1", "0.0000", "1.00", "the team won a game"]
    assert len(command("search", tmp_path / "index", "the team").cells) == 2


def test_metric_and_stored_codes_are_those_asked_for(
    command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    options = ["--metric", "cosine", "--factory", "IVF2,Flat", "--store", "fp16"]
    assert command("index", "build", tiny_model, tiny_corpus, "-o", tmp_path / "index", *options).status == 0
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert (manifest["metric"], manifest["store"]) == ("cosine", "fp16")
    found = json.loads(command("search", tmp_path / "index", "a bank sold shares", "-k", 5, "--json").out)["hits"]
    codes = smim.load(tiny_model).encode(["a bank sold shares", *(hit["text"] for hit in found)])
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    assert [hit["distance"] for hit in found] == pytest.approx(1 - codes[1:] @ codes[0], abs=1e-2)


def test_sentences_are_read_from_standard_input(command: Command, own_index: Path, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("a bank lost\n\nher brother lost\n")
    kept = os.dup(0)
    try:
        with (tmp_path / "lines").open() as lines:
            os.dup2(lines.fileno(), 0)
            added = command("index", "add", own_index, "-")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert added.out.startswith("2 sentences put into ")
    found = json.loads(command("search", own_index, "her brother lost", "-k", 42, "--json").out)["hits"]
    assert {hit["id"]: hit["text"] for hit in found if hit["id"] >= 40} == {40: "a bank lost", 41: "her brother lost"}


def test_a_file_of_sentences_with_ids_and_labels_keeps_them(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"id": 17, "text": "a bank sold shares", "stars": 4}, {"id": 3, "text": "her brother lost", "stars": 2}]
    (tmp_path / "mine.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    index = tmp_path / "index"
    assert command("index", "build", tiny_model, tmp_path / "mine.jsonl", "-o", index).out.startswith("2 sentences")
    found = json.loads(command("search", index, "her brother lost", "-k", 2, "--json").out)["hits"]
    assert [(hit["id"], hit["text"], hit["labels"]) for hit in found] == [
        (3, "her brother lost", {"stars": 2}),
        (17, "a bank sold shares", {"stars": 4}),
    ]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"id": 17, "text": "a bank lost shares", "stars": 1}))
    assert command("index", "upsert", index, tmp_path / "mine.jsonl").status == 0
    found = json.loads(command("search", index, "a bank", "-k", 2, "--json").out)["hits"]
    assert {hit["id"]: hit["text"] for hit in found} == {17: "a bank lost shares", 3: "her brother lost"}


def test_marks_of_the_encoding_and_all_kinds_of_line_ends_are_no_part_of_a_sentence(
    command: Command, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_bytes("\ufeffa bank\n\ufeffa bank sold\r\nher brother\rher brother lost".encode())
    command("index", "build", tiny_model, tmp_path / "mine.txt", "-o", tmp_path / "index")
    found = command("search", tmp_path / "index", "a bank", "-k", 4).cells
    assert {cells[4] for cells in found} == {"a bank", "a bank sold", "her brother", "her brother lost"}


def test_json_is_not_taken_for_a_sentence(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("mine.ndjson", "mine.txt"):
        (tmp_path / name).write_text('{"id": 7, "text": "a bank sold shares"}\n')
    assert command("index", "build", tiny_model, tmp_path / "mine.ndjson", "-o", tmp_path / "index").status == 0
    found = command("search", tmp_path / "index", "a bank", "-k", 1).cells
    assert found[0][1] == "7" and found[0][4] == "a bank sold shares"
    refused = command("index", "add", tmp_path / "index", tmp_path / "mine.txt")
    assert refused.status == 2 and "mine.txt holds JSON, not one sentence per line" in refused.err


def test_a_table_with_rows_that_do_not_fit_is_indexed_and_what_was_done_is_told(
    command: Command, tiny_model: Path, tmp_path: Path
) -> None:
    table = tmp_path / "reviews.csv"
    rows = ['5,"a bank, ""sold""\nshares"', "1,", f"2,{'bank ' * 30}", "4,her brother lost", "3,   ", "3,qwxzy"]
    table.write_text("\n".join(["stars,review", *rows]))
    index = tmp_path / "index"
    built = command("index", "build", tiny_model, table, "-o", index, "--text-column", "review")
    assert built.out.startswith(f"3 sentences in {index}")
    assert built.err.splitlines()[-3:] == [
        f"warning: 2 of 6 rows have no text and were left out: {table}, row 2, {table}, row 5",
        f"warning: 1 of 4 texts were cut after this model's 20 tokens: {table}, row 3",
        f"warning: 1 of 4 texts hold no word and were left out: {table}, row 6",
    ]
    found = command("search", index, "her brother lost", "-k", 3, "--where", '{"stars": {"$gte": 2}}', "--json")
    hits = json.loads(found.out)["hits"]
    assert hits[0]["labels"] == {"stars": 4} and len(hits) == 3
    added = command("index", "add", index, table, "--text-column", "review", "--too-long", "skip")
    assert added.out.startswith("2 sentences put into") and "have more than this model's 20 tokens" in added.err
    for words in (["--label", "stars", "--label", "price"], ["--text-column", "text"], ["--too-long", "cut"]):
        refused = command(
            "index", "build", tiny_model, table, "-o", tmp_path / "new", "--text-column", "review", *words
        )
        assert refused.status == 2 and not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [["--engine", "local"], ["--segments", 2], ["--latents", "latents/ptb"]])
def test_an_option_of_a_corpus_is_refused_for_a_file(
    command: Command, tiny_model: Path, tmp_path: Path, option: list[object]
) -> None:
    (tmp_path / "mine.txt").write_text("a bank sold shares\n")
    refused = command("index", "build", tiny_model, tmp_path / "mine.txt", "-o", tmp_path / "index", *option)
    assert (
        refused.status == 2 and f"mine.txt is a file, but {option[0]} works only with a prepared corpus" in refused.err
    )
    assert not (tmp_path / "index").exists()


def _rows(corpus: Path, split: str) -> list[tuple[str, str, str]]:
    from smim.text.corpus import Corpus

    opened = Corpus.open(corpus).split(split)
    return [(split, text, topic) for text, topic in zip(opened.texts(), opened.labels("topic"), strict=True)]


def test_existing_index_is_replaced_only_with_force(
    command: Command, index: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(index, tmp_path / "copy")
    args = ["index", "build", tiny_model, tiny_corpus, "-o", copy, "--split", "valid"]
    refused = command(*args)
    assert refused.status == 2 and "--force" in refused.err
    assert json.loads((copy / "manifest.json").read_text())["count"] == 40
    assert command(*args, "--force").status == 0
    assert json.loads((copy / "manifest.json").read_text())["count"] == 10


def test_force_does_not_replace_what_is_no_index(
    command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused = command("index", "build", tiny_model, tiny_corpus, "-o", tmp_path, "--force")
    assert refused.status == 2 and "is not an index" in refused.err
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_search_as_json_is_one_object(command: Command, index: Path, tiny_model: Path) -> None:
    query = "a bank sold shares"
    outcome = command("search", index, query, "-k", 2, "--json", "--decode", "--model", tiny_model)
    found = json.loads(outcome.out)
    assert found["query"] == query
    model = smim.load(tiny_model)
    assert found["decoded"] == model.reconstruct([query])[0]
    reconstructed = model.reconstruct([hit["text"] for hit in found["hits"]])
    assert [hit["reconstruction"] for hit in found["hits"]] == reconstructed and len(set(reconstructed)) == 2
    names = ["distance", "id", "labels", "reconstruction", "similarity", "text", "words"]
    assert [sorted(hit) for hit in found["hits"]] == [names] * 2
    assert found["hits"][0]["distance"] <= found["hits"][1]["distance"]


def test_search_for_more_than_there_are_shows_all(command: Command, index: Path) -> None:
    assert len(command("search", index, "a bank sold shares", "-k", 41).cells) == 40
    assert len(command("search", index, "--like", 3, "-k", 41).cells) == 39


def test_search_with_decode_shows_query_and_hits_as_they_decode(
    command: Command, index: Path, tiny_model: Path
) -> None:
    query = "a bank sold shares"
    outcome = command("search", index, query, "-k", 2, "--decode")
    model = smim.load(tiny_model)
    assert outcome.cells[0] == ["query", "", "", "", query, "", *model.reconstruct([query])]
    reconstructed = model.reconstruct([cells[4] for cells in outcome.cells[1:]])
    assert [(cells[0], cells[6]) for cells in outcome.cells[1:]] == list(zip("12", reconstructed, strict=True))
    assert len(set(reconstructed)) == 2


def test_a_query_is_more_than_a_sentence(command: Command, index: Path) -> None:
    from smim.search import open_index

    opened = open_index(index)
    one, other = "a bank sold shares", "her brother lost a small house"
    line = opened.model.interpolation(one, other, steps=5)
    queries = {
        ("--like", 3): opened.more_like([3], 4)[0],
        (one, "--toward", other): opened.search(line[2:3], 4)[0],
        (one, "--toward", other, "--at", 0.25): opened.search(line[1:2], 4)[0],
        (one, "--plus", other, "--minus", "a bank"): opened.search(
            opened.model.arithmetic([one, other], ["a bank"])[None], 4
        )[0],
    }
    for words, hits in queries.items():
        found = json.loads(command("search", index, *words, "-k", 4, "--json").out)
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in hits]


def test_search_with_score_tells_the_querys_posterior_at_each_hit(command: Command, index: Path) -> None:
    from smim.search import open_index

    [hits] = open_index(index).search(["a bank sold shares"], 3, score=True)
    cells = command("search", index, "a bank sold shares", "-k", 3, "--score").cells
    assert [row[-1] for row in cells] == [f"{hit.score:.1f}" for hit in hits]


def test_a_corpus_is_encoded_and_indexed_from_its_codes(
    command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    from smim.search.latents import Latents
    from smim.search.manifest import Manifest

    options = ["--split", "test", "--dtype", "fp16", "--log-variance"]
    assert command("encode", tiny_model, tiny_corpus, "-o", tmp_path / "latents", *options).status == 0
    latents = Latents.open(tmp_path / "latents")
    assert (len(latents), latents.dtype, latents.has_log_variance) == (10, "fp16", True)
    options = ["--split", "test", "--latents", tmp_path / "latents", "--segments", 2]
    built = command("index", "build", tiny_model, tiny_corpus, "-o", tmp_path / "index", *options)
    assert built.out.startswith(f"10 sentences in {tmp_path / 'index'}, from split test of ")
    assert [info.count for info in Manifest.read(tmp_path / "index").segments] == [5, 5]


def test_moved_model_is_given_with_an_option(
    command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    command("index", "build", tmp_path / "model", tiny_corpus, "-o", tmp_path / "index")
    (tmp_path / "model").rename(tmp_path / "moved")
    refused = command("search", tmp_path / "index", "a bank")
    assert refused.status == 2 and "--model" in refused.err
    assert command("search", tmp_path / "index", "a bank", "--model", tmp_path / "moved").status == 0


def test_unknown_words_only_are_refused(command: Command, index: Path) -> None:
    outcome = command("search", index, "zyzzyva")
    assert (outcome.status, outcome.out) == (2, "")
    assert "has no word" in outcome.err


@pytest.mark.parametrize("terminal", [True, False])
def test_sentences_are_shown_as_they_are(
    terminal: bool, command: Command, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, label = "a bank [bold]sold[/bold] :smile: [/] shares", "[red]x[/red]"
    tokenizer = Tokenizer.load(tiny_model / "tokenizer")
    rows = [{"text": text, "[b]kind[/b]": label}]
    write_corpus(tmp_path / "marked", {"train": rows}, tokenizer, name="marked", source={"[i]": "[/i]"})
    assert command("index", "build", tiny_model, tmp_path / "marked", "-o", tmp_path / "index").status == 0
    if terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "200")
    found, shown = (
        command("search", tmp_path / "index", "a bank", "-k", 1),
        command("corpus", "show", tmp_path / "marked"),
    )
    assert text in re.sub(r"\x1b\[\d+m", "", found.out) and label in found.out
    assert ("\x1b[1mbank\x1b[0m" in found.out) == terminal  # a word of the query
    assert text in shown.out and "[/i]" in shown.out
    assert ("[b]kind[/b]" in found.out) == terminal


def test_line_breaks_in_a_sentence_do_not_break_the_lines(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_model / "tokenizer")
    rows = [{"text": "a bank\tsold\nshares"}]
    write_corpus(tmp_path / "broken", {"train": rows}, tokenizer, name="broken")
    command("index", "build", tiny_model, tmp_path / "broken", "-o", tmp_path / "index")
    assert command("search", tmp_path / "index", "a bank", "-k", 1).cells[0][4:] == ["a bank sold shares"]


def test_generating_commands_print_what_the_model_says(command: Command, asking_model: Path) -> None:
    model, first, second = smim.load(asking_model), "a bank sold shares", "her brother lost a small house"
    expected = {
        ("reconstruct", asking_model, first, second): model.reconstruct([first, second]),
        ("reconstruct", asking_model, first, "--sample", "--seed", 3): model.reconstruct([first], sample=True, seed=3),
        ("interpolate", asking_model, first, second, "--steps", 3): model.interpolate(first, second, steps=3),
        ("perturb", asking_model, first, "--num", 2, "--scale", 4, "--seed", 3): model.perturb(
            first, num=2, scale=4, seed=3
        ),
        ("sample", asking_model, "--num", 2, "--standard-deviation", 2, "--seed", 3): model.sample(
            2, standard_deviation=2, seed=3
        ),
        ("sample", asking_model, "--num", 2, "--prior"): model.sample(2, prior=True),
        ("sample", asking_model, "--num", 2, "--markov-chain", 3): model.sample(2, chain_steps=3),
        ("arithmetic", asking_model, first, first, "--minus", second): model.decode(
            model.arithmetic([first, first], [second])[None]
        ),
        ("answer", asking_model, second): [model.answer(second)],
        ("answer", asking_model, "the law", "--num-words", 3): [model.answer("the law", num_words=3)],
    }
    assert all("".join(lines) for lines in expected.values()) and len({*map(tuple, expected.values())}) == len(expected)
    for args, lines in expected.items():
        assert command(*args) == Outcome(0, "".join(f"{line}\n" for line in lines), "")
    assert model.answer("the law", num_words=3) != model.answer("the law")


def test_literal_and_part_reach_the_model_and_the_index(
    command: Command, meaning_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    model, first, second = smim.load(meaning_model), "a bank sold shares", "her brother lost a small house"
    expected = {
        ("reconstruct", first, "--literal", 0, "--candidates", 2): model.reconstruct([first], literal=0, candidates=2),
        ("reconstruct", first, "--literal", 0, "--beam", 4): model.reconstruct([first], literal=0, beam=4),
        ("interpolate", first, second, "--steps", 4, "--literal", 0.5, "--seed", 1): model.interpolate(
            first, second, steps=4, literal=0.5, seed=1
        ),
        ("perturb", first, "--literal", 1): model.perturb(first, literal=1),
        ("perturb", first): model.perturb(first),
        ("sample", "--num", 2, "--literal", 0.5): model.sample(2, literal=0.5),
        ("arithmetic", first, second): model.decode(model.arithmetic([first, second])[None], literal=0),
    }
    assert len({*map(tuple, expected.values())}) == len(expected)
    for (name, *args), lines in expected.items():
        assert command(name, meaning_model, *args) == Outcome(0, "".join(f"{line}\n" for line in lines), "")
    command("index", "build", meaning_model, tiny_corpus, "-o", tmp_path / "index", "--part", "meaning")
    manifest = Manifest.read(tmp_path / "index")
    assert (manifest.part, manifest.dimension, manifest.metric) == ("meaning", 6, "cosine")
    found = command("search", tmp_path / "index", first, "-k", 1, "--decode", "--literal", 0)
    assert [found.cells[0][-1]] == model.reconstruct([first], literal=0)


def test_what_a_model_cannot_do_is_one_line(command: Command, tiny_model: Path) -> None:
    outcome = command("answer", tiny_model, "a bank sold shares")
    assert outcome.status == 2 and "not trained on questions with answers" in outcome.err
    outcome = command("reconstruct", tiny_model, "a bank sold shares", "--literal", 0)
    assert outcome.status == 2 and "this model's codes have no meaning part" in outcome.err


@pytest.mark.parametrize(
    "args", [["reconstruct", "a bank"], ["interpolate", "a bank", "shares"], ["perturb", "a bank"], ["sample"]]
)
def test_unk_is_printed_only_where_it_is_asked_for(command: Command, unknowing_model: Path, args: list[str]) -> None:
    name, *texts = args
    for options, printed in (([], False), (["--allow-unknown"], True)):
        outcome = command(name, unknowing_model, *texts, *options)
        assert outcome.status == 0 and ("<unk>" in outcome.out) == printed


def test_number_of_an_answers_words_reaches_the_model(command: Command, tiny_model: Path) -> None:
    outcome = command("answer", tiny_model, "a bank sold shares", "--num-words", 0)
    assert outcome.status == 2 and "num_words is 0" in outcome.err


def test_corpus_show_names_the_source_files_in_one_line(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_model / "tokenizer")
    source = {"files": [{"file": "a.txt", "sha256": "00"}, {"file": "b.txt", "sha256": "01"}]}
    write_corpus(tmp_path, {"train": [{"text": "a bank"}]}, tokenizer, name="files", source=source)
    assert ["files", "a.txt, b.txt"] in command("corpus", "show", tmp_path).cells


def test_corpus_show_tells_source_splits_vocabulary_and_sentences(command: Command, tiny_corpus: Path) -> None:
    card = json.loads((tiny_corpus / "corpus.json").read_text())
    cells = command("corpus", "show", tiny_corpus).cells
    assert ["files", "train.jsonl, valid.jsonl, test.jsonl"] in cells
    assert ["vocabulary", str(card["vocabulary_size"])] in cells
    assert ["train", "40", str(card["splits"]["train"]["tokens"])] in [row[:3] for row in cells]
    train = " ".join(text for _, text, _ in _rows(tiny_corpus, "train"))
    assert ["the", str(train.split().count("the"))] in cells
    assert all([split, text] in cells for split in ("train", "valid") for _, text, _ in _rows(tiny_corpus, split)[:3])


@pytest.fixture
def own_index(index: Path, tmp_path: Path) -> Path:
    """An index to change."""
    return shutil.copytree(index, tmp_path / "own")


@pytest.mark.parametrize("name", ["add", "upsert"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "qwxzy"}, "has no word of 'qwxzy'"),
        ({"text": ""}, "there is no text"),
        ({"text": None}, "there is no text"),
        ({"text": "a bank " * 20}, "has 40 tokens"),
        ({"text": "a \ud800"}, "half of a surrogate pair"),
        ({"id": 2**53}, "ids must be a list of whole numbers from 0 to 2**53 - 1, not '9007199254740992'"),
        ({"id": 1.0}, "ids must be a list of whole numbers from 0 to 2**53 - 1, not '1.0'"),
        ({"id": True}, "ids must be a list of whole numbers from 0 to 2**53 - 1, not 'True'"),
        ({"id": 50}, "the id 50 is given twice"),
        ({"topic": 1.5}, "the labels 'topic' do not fit the index's: 1.5 is a number"),
        ({"topic": float("inf")}, "the labels 'topic' must be text, finite numbers, or true and false, not inf"),
        ({"topic": ["a"]}, "the labels 'topic' must be text, finite numbers, or true and false, not ['a']"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_sentence_of_a_file_is_told_with_its_line_by_every_command(
    command: Command,
    own_index: Path,
    tiny_model: Path,
    tmp_path: Path,
    name: str,
    row: dict[str, Any],
    message: str,
) -> None:
    rows = [{"id": 50, "text": "a bank", "topic": "home"}, {"id": 51, "text": "a bank lost", "topic": "home"} | row]
    path = tmp_path / "new.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))
    before = (own_index / "manifest.json").read_bytes()
    strict = ["--too-long", "error", "--empty", "error"]
    refused = command("index", name, own_index, path, *strict)
    placed = rf"error: {re.escape(str(path))}, line 3(, id [^:]{{1,20}})?: "
    assert refused.status == 2 and re.match(placed, refused.err) and message in refused.err
    assert (own_index / "manifest.json").read_bytes() == before
    built = command("index", "build", tiny_model, path, "-o", tmp_path / "index", *strict)
    assert built.status == 2 and re.match(placed, built.err)
    assert message.replace("the index's", "one another") in built.err and not (tmp_path / "index").exists()


def test_labels_of_a_file_without_a_value_are_found_as_such_and_printed_as_json(
    command: Command, tiny_model: Path, tmp_path: Path
) -> None:
    rows = ['{"text": "a bank", "score": NaN}', '{"text": "a bank lost", "score": 1.5}', '{"text": "her brother lost"}']
    (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    index = tmp_path / "index"
    assert command("index", "build", tiny_model, tmp_path / "mine.jsonl", "-o", index).status == 0
    found = command("search", index, "a bank", "-k", 3, "--json").out
    hits = json.loads(found, parse_constant=lambda name: pytest.fail(f"JSON has no {name}"))["hits"]
    assert {hit["id"]: hit["labels"]["score"] for hit in hits} == {0: None, 1: 1.5, 2: None}
    without = command("search", index, "a bank", "-k", 3, "--where", '{"score": null}').cells
    assert [row[-1] for row in without] == ["", ""]
    assert len(command("search", index, "a bank", "-k", 3, "--where", '{"score": [NaN, 1.5]}').cells) == 3
    (tmp_path / "more.jsonl").write_text('{"text": "a bank", "score": NaN}\n{"text": "a bank", "score": -Infinity}')
    refused = command("index", "add", index, tmp_path / "more.jsonl")
    assert refused.status == 2 and "more.jsonl, line 2: the labels 'score' must be text, finite" in refused.err


def test_infinity_that_an_older_index_holds_is_printed_as_null(
    command: Command, tiny_model: Path, tmp_path: Path
) -> None:
    model = smim.load(tiny_model)
    codes = model.encode(["a bank", "a bank lost"])
    index_of_codes(tmp_path / "index", model, codes, labels={"score": pa.array([float("inf"), float("nan")])})
    found = command("search", tmp_path / "index", "a bank", "--json", "--model", tiny_model).out
    hits = json.loads(found, parse_constant=lambda name: pytest.fail(f"JSON has no {name}"))["hits"]
    assert [hit["labels"] for hit in hits] == [{"score": None}, {"score": None}]


@pytest.mark.parametrize("where", LARGE.values(), ids=LARGE)
def test_a_filter_of_too_many_parts_is_refused(command: Command, index: Path, where: dict[str, Any]) -> None:
    for words in (["search", index, "a bank"], ["index", "delete", index]):
        refused = command(*words, "--where", json.dumps(where))
        assert refused.status == 2 and len(refused.err.splitlines()) == 1 and "at most" in refused.err
    many = json.dumps({"$or": [{"topic": "home"}] * 9000})
    assert len(command("search", index, "a bank", "--where", many).cells) == 5


@pytest.mark.parametrize("id", [2**53, 2**63, 10**30])
def test_an_id_above_the_largest_is_refused(command: Command, index: Path, id: int) -> None:
    for words in (["search", index, "--like", id], ["index", "delete", index, id]):
        refused = command(*words)
        assert refused.status == 2 and f"from 0 to 2**53 - 1, not '{id}'" in refused.err


def test_corpus_show_counts_the_sentences_without_a_label(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": "a bank", "kind": "x", "topic": None}, {"text": "her brother", "kind": None, "topic": None}]
    write_corpus(tmp_path, {"train": rows, "test": rows}, Tokenizer.load(tiny_model / "tokenizer"), name="some")
    cells = command("corpus", "show", tmp_path).cells
    assert ["label kind", "2 sentences have no value"] in cells
    assert ["label topic", "4 sentences have no value"] in cells


def test_index_is_changed(command: Command, own_index: Path, tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text('{"text": "a bank lost", "topic": "money"}\n\n{"text": "her brother lost"}\n')
    (tmp_path / "other.jsonl").write_text('{"id": 3, "text": "a bank lost shares", "topic": "home"}')
    (tmp_path / "lines.txt").write_text("the old minister lost\n")
    added = command("index", "add", own_index, tmp_path / "new.jsonl", tmp_path / "other.jsonl")
    assert (added.status, added.err) == (
        2,
        "error: 1 of 3 sentences have an id; give ids to all or to none "
        f"(there is no id in {tmp_path}/new.jsonl, line 1)\n",
    )
    assert command("index", "add", own_index, tmp_path / "new.jsonl").out.startswith("2 sentences put into ")
    assert command("index", "upsert", own_index, tmp_path / "other.jsonl").status == 0
    assert command("index", "add", own_index, tmp_path / "lines.txt").out.endswith(", which holds 43 sentences\n")
    assert command("index", "delete", own_index, 41).out == "1 sentences deleted, 42 left\n"
    found = command("search", own_index, "a bank lost", "-k", 42, "--json")
    texts = {hit["id"]: hit["text"] for hit in json.loads(found.out)["hits"]}
    assert (texts[3], texts[40], texts[42]) == ("a bank lost shares", "a bank lost", "the old minister lost")
    assert 41 not in texts and len(texts) == 42
    assert command("index", "compact", own_index).out == f"42 sentences in {own_index}\n"
    assert command("index", "verify", own_index).out == f"42 sentences in {own_index}, every file as it was written\n"


def test_search_takes_a_filter_an_offset_and_a_distance(command: Command, index: Path) -> None:
    everything = command("search", index, "a bank lost shares", "-k", 40).cells
    home = command("search", index, "a bank lost shares", "-k", 3, "--offset", 1, "--where", '{"topic": "home"}').cells
    assert [cells[4] for cells in home] == [cells[4] for cells in everything if cells[5] == "home"][1:4]
    near = command("search", index, "a bank lost shares", "-k", 40, "--max-distance", everything[4][2]).cells
    assert 4 <= len(near) <= 5  # the printed distance is rounded
    alike = command("search", index, "a bank lost shares", "-k", 40, "--least-similarity", 0.999).cells
    assert alike and all(cells[4] == "a bank lost shares" for cells in alike)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.jsonl", '{"text": "a bank"', "a.jsonl, line 1: not JSON"),
        ("a.jsonl", '{"text": "a bank"}\n{"txt": "a"}', "a.jsonl, line 2: the line must be an object with a 'text'"),
        ("a.jsonl", '{"text": "a bank", "topics": 1}', "the index has no column 'topics'; did you mean 'topic'"),
        ("a.jsonl", '{"text": "a bank", "id": "x"}', "ids must be a list of whole numbers"),
        ("a.jsonl", '{"text": "a bank", "id": ' + "1" * 5000 + "}", "a.jsonl, line 1: not JSON"),
        ("a.jsonl", "[" * 5000, "a.jsonl, line 1: not JSON"),
        ("a.jsonl", '{"text": "a bank", "topic": 3}', "the labels 'topic' do not fit"),
        ("a.jsonl", '{"text": "a bank", "topic": "\\ud800"}', "the labels 'topic' do not fit"),
        ("a.jsonl", '{"text": "a bank \\ud800"}', "half of a surrogate pair"),
        ("a.txt", "", "no sentence in it"),
        ("a.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("missing.txt", None, "missing.txt does not exist"),
    ],
)
def test_sentences_that_cannot_be_added_are_refused(
    command: Command, own_index: Path, tmp_path: Path, file: str, content: str | bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused = command("index", "add", own_index, tmp_path / file)
    assert refused.status == 2 and message in refused.err


def test_a_text_of_ten_megabytes_is_refused(command: Command, own_index: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("bank " * 2_000_000)
    refused = command("index", "add", own_index, tmp_path / "a.txt", "--too-long", "error")
    assert refused.status == 2 and "has 2000000 tokens, but this model takes at most 20" in refused.err
    assert len(refused.err) < 300


def test_a_second_writer_is_refused(
    command: Command, own_index: Path, tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    from smim.search import IndexWriter

    (tmp_path / "a.txt").write_text("a bank")
    with IndexWriter(own_index):
        for words in (
            ["add", own_index, tmp_path / "a.txt"],
            ["delete", own_index, 3],
            ["compact", own_index],
            ["build", tiny_model, tiny_corpus, "-o", own_index, "--force"],
        ):
            refused = command("index", *words)
            assert refused.status == 2 and "is being changed by another process" in refused.err


def test_a_damaged_index_is_refused_by_every_command(command: Command, own_index: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a bank")
    path = own_index / "00000001" / "vectors.faiss"
    path.write_bytes(path.read_bytes()[:-8])
    for words in (
        ["search", own_index, "a bank"],
        ["serve", "--index", own_index, "--port", 0],
        *(["index", name, own_index] for name in ("compact", "verify", "report")),
        ["index", "add", own_index, tmp_path / "a.txt"],
        ["index", "delete", own_index, 3],
    ):
        refused = command(*words)
        assert refused.status == 2 and "vectors.faiss differs from its description in manifest.json" in refused.err


def test_what_is_no_model_or_another_one_is_refused(
    command: Command, index: Path, tiny_corpus: Path, long_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    for words in (
        ["index", "build", tmp_path, tiny_corpus, "-o", output],
        ["encode", tmp_path, tiny_corpus, "-o", output],
        ["reconstruct", tmp_path, "a bank"],
        ["search", index, "a bank", "--model", tmp_path],
    ):
        refused = command(*words)
        assert refused.status == 2 and f"{tmp_path} is not a model" in refused.err
        assert not output.exists()
    refused = command("search", index, "a bank", "--model", long_model)
    assert refused.status == 2 and "was built with another model" in refused.err


@pytest.mark.parametrize("memory", ["0", "-1", "nan", "inf"])
def test_a_memory_that_cannot_be_is_refused(
    command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path, memory: str
) -> None:
    refused = command("index", "build", tiny_model, tiny_corpus, "-o", tmp_path / "index", "--memory", memory)
    assert refused.status == 2 and "it must be a size in GB above 0" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "INDEX", "a bank", "--where", "stars=5"], "--where is not valid JSON"),
        (["search", "INDEX", "a bank", "--where", '{"topik": 1}'], "no column 'topik'"),
        (["search", "INDEX", "a bank", "--where", "[]"], "a filter must be an object"),
        (["search", "INDEX", "a bank", "--max-distance", "nan"], "max_distance is nan, but it must be a number"),
        (["search", "INDEX", "a bank", "--at", "0.3"], "give it with --toward"),
        (["search", "INDEX", "a bank", "--where", "1" * 5000], "--where is not valid JSON"),
        (["search", "INDEX", "a bank", "--where", "[" * 5000], "--where is not valid JSON"),
        (["search", "INDEX", "a bank", "--where", '{"topic": "\\ud800"}'], "cannot compare with"),
        (["search", "INDEX", "a bank", "-k", "0"], "k must be at least 1"),
        (["search", "INDEX", "--like", "3", "-k", "0"], "k must be at least 1"),
        (["search", "INDEX", "--like", "40"], "holds no sentence with id 40"),
        (["search", "INDEX", "--like", "-1"], "ids must be a list of whole numbers"),
        (["search", "INDEX"], "give one of these: a sentence"),
        (["search", "INDEX", ""], "the text '' is empty"),
        (["search", "INDEX", "a bank \udcff"], "half of a surrogate pair"),
        (["search", "INDEX", "a bank", "--toward", "a bank", "--at", "nan"], "NaN or infinite"),
        (["search", "INDEX", "a bank", "--model", "nowhere"], "nowhere is not a model"),
        (["index", "delete", "INDEX", "--", "-1"], "ids must be a list of whole numbers"),
        (["index", "delete", "INDEX", "--where", '{"topik": 1}'], "no column 'topik'"),
        (["index", "delete", "INDEX"], "give either the ids of the sentences to delete, or a filter"),
        (["index", "report", "INDEX", "-k", "40"], "too few for recall@40"),
        (["index", "build", "english-small", "nofile.txt", "-o", "indexes/new"], "nofile.txt does not exist"),
    ],
)
def test_wrong_requests_are_refused(command: Command, index: Path, words: list[str], message: str) -> None:
    refused = command(*[index if word == "INDEX" else word for word in words])
    assert refused.status == 2 and message in refused.err


def test_damage_inside_of_a_large_file_is_found_by_verify(command: Command, own_index: Path, monkeypatch) -> None:
    from smim import storage
    from smim.search.manifest import FileInfo, Manifest

    monkeypatch.setattr(storage, "sampled_sha256", lambda path: "unread")
    manifest = Manifest.read(own_index)
    [segment] = manifest.segments
    for file in segment.files:
        segment.files[file] = FileInfo.of(segment.path(own_index, file))
    manifest.write(own_index)
    path = own_index / "00000001" / "vectors.faiss"
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    refused = command("index", "verify", own_index)
    assert refused.status == 2 and "vectors.faiss was changed or damaged" in refused.err


def test_report_measures_and_applies(command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    options = ["-o", tmp_path / "index", "--factory", "IVF8,Flat"]
    assert command("index", "build", tiny_model, tiny_corpus, *options).status == 0
    report = json.loads(command("index", "report", tmp_path / "index", "-k", 5, "--json").out)
    assert report["count"] == 40 and report["suggested"]["recall"] >= 0.95
    applied = command("index", "report", tmp_path / "index", "-k", 5, "--recall", 1, "--apply")
    assert applied.status == 0 and "nprobe" in applied.out
    assert "nprobe" in json.loads((tmp_path / "index" / "manifest.json").read_text())["search"]


def test_report_that_finds_no_settings_says_so(command: Command, own_index: Path, monkeypatch) -> None:
    from smim.search import report

    best = report.Measured({"nprobe": 8}, 0.9, 0.001)
    monkeypatch.setattr(report._Sample, "measured", lambda *_: best)
    before = (own_index / "manifest.json").read_bytes()
    assert command("index", "report", own_index).status == 0
    refused = command("index", "report", own_index, "--apply")
    assert refused.status == 1 and "no settings reach a recall of 0.95; the best reach 0.900 (nprobe 8)" in refused.err
    assert (own_index / "manifest.json").read_bytes() == before


def test_build_says_recall_and_latency(command: Command, tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    built = command("index", "build", tiny_model, tiny_corpus, "-o", tmp_path / "index", "--factory", "IVF2,Flat")
    assert re.search(r"recall@10 1\.000, \d+\.\d\d ms a query \(nprobe \d\)\n", built.out)
    assert built.status == 0


def test_text_is_split_and_a_judge_is_made_of_its_part(command: Command, tiny_corpus: Path, tmp_path: Path) -> None:
    from smim.evaluation.judge import Judge
    from smim.text.corpus import Corpus

    texts = Corpus.open(tiny_corpus).split("train").texts()
    (tmp_path / "text.txt").write_text("\n".join(texts))
    sides = [tmp_path / "judge.txt", tmp_path / "model.txt"]
    split = command("judge", "split", tmp_path / "text.txt", "--judge", sides[0], "--model", sides[1], "--share", 0.6)
    assert split.status == 0
    judges, models = (side.read_text().splitlines() for side in sides)
    assert sorted(judges + models) == sorted(texts) and 15 < len(judges) < 33
    assert split.out.splitlines() == [
        f"{len(judges)} sentences in {sides[0]}",
        f"{len(models)} sentences in {sides[1]}",
    ]
    made = command("judge", "make", sides[0], "-o", tmp_path / "judge", "--vocabulary-size", 285)
    judge = Judge.open(tmp_path / "judge")
    assert made.status == 0 and f"hash {judge.hash[:12]}" in made.out and judge.card.sentences == len(judges)
    refused = command("judge", "make", sides[0], "-o", tmp_path / "other", "--vocabulary-size", 4000)
    assert refused.status == 2 and "lower it" in refused.err and not (tmp_path / "other").exists()
