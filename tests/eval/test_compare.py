"""Models side by side: the thesis's tables with ours, sets of sentences apart, and refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from eval import compare, tables
from smim.errors import UserError
from smim.evaluation.section import Metric
from tests.evaluation.reports import Page, content, metrics, write
from tests.scripts import ROOT, run_script

LIKELIHOOD = {"nll": 66.93, "ppl_thesis": 19.25, "bleu1_sampled": 0.625, "bleu1_greedy": 0.7, "nll_elbo": 2310.0}


@pytest.fixture
def make(tmp_path):
    """Writes a report and reads it as the comparison does."""
    (tmp_path / "plots").mkdir()

    def make_report(values: dict, *model, **changes) -> dict:
        directory = tmp_path / f"report{len(list(tmp_path.iterdir()))}"
        write(directory, metrics(**values), content(*model, **changes))
        return compare.read_report(directory)

    return make_report


def page(markdown: str) -> Page:
    return Page(MarkdownIt("commonmark").enable("table").render(markdown))


def names(table: list[list[str]]) -> list[str]:
    return [row[0] for row in table[1:]]


def test_language_models_stand_above_the_rows_of_the_thesis(make):
    smim = make({**LIKELIHOOD, "kl": 2300.0, "active_units_relative": Metric(512.0, None, n=9)})
    svae = make({"nll": 113.5, "ppl_thesis": 148.0, "nll_iw": 100.0}, "vae", 16)
    shown = page(compare.as_markdown([smim, svae]))
    [ours] = shown.rows("sMIM (512)")[:1]
    assert ours["PPL (stdev)"] == "19.250 (0.012)" and ours["NLL"] == "66.93 ± 0.41" and ours["parameters"] == "12.1M"
    assert ours["NLL under the prior (ELBO)"] == "2310.00 ± 0.41" and ours["NLL under the prior (IW)"] == ""
    assert ours["active units"] == "512 of 512" and ours["KL"] == "2300.00 ± 0.41"
    assert shown.rows("sVAE (16)")[0]["NLL under the prior (IW)"] == "100.00 ± 0.41"
    [thesis] = shown.rows("thesis: sMIM (512)")
    assert (thesis["PPL (stdev)"], thesis["NLL"], thesis["BLEU-1 sampled"]) == ("19.53 (0.01)", "67.46", "0.679")
    assert thesis["parameters"] == "12M" and thesis["KL"] == ""
    assert shown.rows("authors' demo: sMIM (512)")[0]["NLL"] == "66.9"
    assert names(shown.tables[0])[:2] == ["sMIM (512)", "sVAE (16)"]
    assert len([name for name in names(shown.tables[0]) if name.startswith("thesis: ")]) == 7


def test_text_vaes_stand_beside_a_language_model(make):
    vae = {"nll_with_eos_iw": 328.2, "nll_with_eos_elbo": 330.0, "kl": 5.6, "mutual_information_in_batches": 2.9}
    reports = [
        make(vae | {"ppl_with_eos_iw": 61.0, "active_units": 15.0}, "vae", 32, model={"settings": {"free_bits": 0.5}}),
        make({"nll_with_eos_iw": 328.0, "nll_with_eos_elbo": 328.0, "ppl_with_eos_iw": 60.75}, "language_model", 1),
        make({"nll": 60.0}, "autoencoder"),
    ]
    shown = page(compare.as_markdown(reports))
    [vae_row], [lm_row] = (
        [row for row in shown.rows(name) if "AU" in row] for name in ("sVAE (32), free_bits 0.5", "language model (1)")
    )
    assert vae_row["NLL (IW)"] == "328.20 ± 0.41" and vae_row["MI of 32"] == "2.90 ± 0.41"
    assert vae_row["AU"] == "15.00 ± 0.41" and vae_row["PPL of NLL (IW)"] == "61.00 ± 0.41"
    assert lm_row["NLL (IW)"] == lm_row["NLL (ELBO)"] == "328.00 ± 0.41" and lm_row["KL"] == lm_row["AU"] == ""
    [table] = [table for table in shown.tables if "AU" in table[0]]
    assert names(table) == ["sVAE (32), free_bits 0.5", "language model (1)"]
    assert "NLL (training posteriors)" not in table[0]


def test_columns_and_tables_without_metrics_are_left_out(make):
    markdown = compare.as_markdown([make({"nll": 20.0}, corpus="demo"), make({"bleu1_greedy": 0.5}, corpus="demo")])
    shown = page(markdown)
    assert shown.tables[0][0] == ["model (latent dim)", "NLL", "BLEU-1 greedy", "parameters"]
    assert len(shown.tables) == 1 and "thesis:" not in markdown


def test_different_sentences_are_in_tables_of_their_own(make):
    reports = [
        make(LIKELIHOOD, corpus="demo", hash="1" * 64),
        make(LIKELIHOOD, "vae", corpus="demo", hash="2" * 64),
        make(LIKELIHOOD, "autoencoder", corpus="demo", hash="1" * 64, split="valid"),
        make(LIKELIHOOD, corpus="demo", hash="1" * 64, sentences=500, settings={"max_sentences": 500}),
        make(LIKELIHOOD, "autoencoder", corpus="demo", hash="1" * 64),
    ]
    markdown = compare.as_markdown(reports)
    assert [names(table) for table in page(markdown).tables if "NLL" in table[0]] == [
        ["sMIM (512)", "AE (512)"],
        ["sVAE (512)"],
        ["AE (512)"],
        ["sMIM (512)"],
    ]
    headings = [line for line in markdown.splitlines() if line.startswith("## ")]
    assert headings == [
        "## demo, test: 3,761 sentences (corpus 11111111)",
        "## demo, test: 3,761 sentences (corpus 22222222)",
        "## demo, valid: 3,761 sentences",
        "## demo, test: 500 sentences drawn by seed 3",
    ]


def test_published_rows_stand_only_with_the_whole_test_split(make):
    part = make(LIKELIHOOD, sentences=500, settings={"max_sentences": 500})
    assert "thesis:" not in compare.as_markdown([part, make(LIKELIHOOD, split="valid")])


def test_models_of_one_name_are_told_apart_by_directory_or_training_corpus(make):
    markdown = compare.as_markdown(
        [
            make(LIKELIHOOD, directory="runs/a/model"),
            make(LIKELIHOOD, directory="runs/b_*/model"),
            make(LIKELIHOOD, "amim", 1024, trained_on="everything"),
        ]
    )
    ours = ["sMIM (512), runs/a/model", "sMIM (512), runs/b_*/model", "sMIM (1024), trained on everything"]
    assert names(page(markdown).tables[0])[:3] == ours


def test_other_tokenizers_are_pointed_out(make):
    same = [make(LIKELIHOOD), make(LIKELIHOOD, "vae")]
    assert "per token" not in compare.as_markdown(same)
    markdown = compare.as_markdown([*same, make(LIKELIHOOD, "autoencoder", tokens_per_sentence=30.0)])
    assert "compare NLL, not PPL" in markdown and "AE (512) 30.0" in markdown


def test_entropy_is_table_7_6(make):
    report = make({"latent_entropy": 53.0, "latent_entropy_normal": Metric(181.62, None, n=9)}, "amim", 128)
    shown = page(compare.as_markdown([report]))
    assert shown.rows("sMIM (128)") == [
        {"model (latent dim)": "sMIM (128)", "entropy": "53.00 ± 0.41", "N(0, I)": "181.62"}
    ]
    assert shown.rows("thesis: AE (128)")[0]["entropy"] == "259.34"


def test_bleu_of_both_kinds_is_table_7_7(make):
    smim, other = make({"bleu1_sampled": 0.6}), make({"bleu1_sampled": 0.61}, directory="runs/two")
    autoencoder = make({"bleu1_sampled": 0.5, "bleu1_greedy": 0.55}, "autoencoder")
    small = make({"bleu1_sampled": 0.3}, "autoencoder", 16)
    shown = next(t for t in page(compare.as_markdown([smim, autoencoder, small, other])).tables if "latent dim" in t[0])
    assert shown == [
        ["latent dim", "sMIM sampled", "AE sampled", "AE greedy", "thesis: sMIM", "thesis: AE"],
        ["16", "", "0.30 ± 0.41", "", "0.35", "0.348"],
        ["512", "0.60 ± 0.41", "0.50 ± 0.41", "0.55 ± 0.41", "0.679", "0.637"],
        ["512", "0.61 ± 0.41", "", "", "0.679", "0.637"],
    ]
    assert "BLEU-1 of sMIM and AE" not in compare.as_markdown([smim, other])


def test_models_of_one_architecture_and_seed_stand_side_by_side(make):
    sums = {"architecture": "superposition"}
    models = [
        make({"bleu1_sampled": 0.6}),
        make({"bleu1_sampled": 0.98}, model=sums),
        make({"bleu1_sampled": 0.62}, model={"seed": 1}),
        make({"bleu1_sampled": 0.5}, "autoencoder", model={"seed": 1}),
        make({"bleu1_sampled": 0.99}, "autoencoder", model=sums),
    ]
    shown = page(compare.as_markdown(models)).tables
    pairs = next(table for table in shown if "latent dim" in table[0])
    assert [row[:3] for row in pairs[1:]] == [
        ["512", "0.60 ± 0.41", ""],
        ["512", "0.62 ± 0.41", "0.50 ± 0.41"],
        ["512, superposition", "0.98 ± 0.41", "0.99 ± 0.41"],
    ]
    assert {"sMIM (512), superposition", "AE (512), superposition"} < set(names(shown[0]))


def test_answering_is_table_7_8_with_the_floors_once(make):
    floors = {"p_at_1_random": 0.2, "mrr_random": 0.45, "p_at_1_bm25": 0.3, "mrr_bm25": 0.5}
    answered = {"p_at_1": 0.6, "mrr": 0.8, **floors}
    qa = {"corpus": "yahoocqa", "trained_on": "yahoo"}
    shown = page(compare.as_markdown([make(answered, **qa), make(answered, "autoencoder", **qa), make({"nll": 1.0})]))
    [table] = [table for table in shown.tables if "P@1" in table[0]]
    assert table[1:3] == [
        ["sMIM (512), trained on yahoo", "0.60 ± 0.41", "0.80 ± 0.41"],
        ["AE (512), trained on yahoo", "0.60 ± 0.41", "0.80 ± 0.41"],
    ]
    assert names(table)[2:] == [
        *("word overlap (BM25)", "random order", "thesis: AP-CNN", "thesis: AP-BiLSTM", "thesis: HyperQA"),
        *("thesis: sMIM (512)", "thesis: AE (512)", "thesis: sMIM (1024), trained on everything"),
    ]
    assert "Questions of yahoocqa, test" in shown.text


def test_questions_of_different_corpora_are_in_tables_of_their_own(make):
    answered = {"p_at_1": 0.6, "mrr": 0.8}
    markdown = compare.as_markdown([make(answered, corpus="demo"), make(answered, corpus="yahoocqa", hash="c" * 64)])
    assert len([table for table in page(markdown).tables if "P@1" in table[0]]) == 2
    assert "## Questions of demo, test" in markdown and "## Questions of yahoocqa, test" in markdown


def test_information_stands_beside_its_cap_and_the_verdict(make):
    smim = make({"mutual_information": 8.1, "mutual_information_cap": Metric(8.232, None, n=9), "collapsed": 0.0})
    svae = make({"mutual_information": 0.1, "collapsed": 1.0}, "vae")
    shown = page(compare.as_markdown([smim, svae]))
    assert shown.tables[0] == [
        ["model (latent dim)", "mutual information", "its cap, log N", "verdict"],
        ["sMIM (512)", "8.10 ± 0.41", "8.232", "not collapsed"],
        ["sVAE (512)", "0.10 ± 0.41", "", "collapsed"],
    ]


def test_language_modelling_is_one_table(make):
    table = tables.language_modelling([make(LIKELIHOOD, corpus="demo"), make(LIKELIHOOD, "vae", corpus="demo")])
    assert len(table.splitlines()) == 4 and tables.language_modelling([make({"kl": 1.0})]) == ""


def run(*arguments: object) -> subprocess.CompletedProcess:
    return run_script("eval/compare.py", [*map(str, arguments)])


def test_the_command_prints_and_writes_the_comparison(make, tmp_path):
    make(LIKELIHOOD)
    [directory] = tmp_path.glob("report*")
    arguments = map(str, [directory, directory / "report.json", "--output", tmp_path / "side" / "by"])
    command = [sys.executable, "eval/compare.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "side" / "by" / "comparison.md").read_text() == done.stdout
    html = Page((tmp_path / "side" / "by" / "comparison.html").read_text())
    assert html.rows("thesis: sMIM (512)") and "Language modelling" in html.text
    assert not [attrs for _, attrs in html.elements if str(attrs.get("href", "#"))[0] != "#" or "src" in attrs]


def test_without_arguments_it_says_how_to_use_it():
    refused = run()
    assert refused.returncode == 2 and "Usage" in refused.stderr
    for flag in ("-h", "--help"):
        shown = run(flag)
        assert shown.returncode == 0 and "REPORT" in shown.stdout


def damage(path: Path, **changes: object) -> Path:
    report = json.loads((path / "report.json").read_text())
    (path / "report.json").write_text(json.dumps({**report, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "format 1, but 3 is needed; evaluate the model again"),
        ({"format": None}, "evaluate the model again"),
        ({"metrics": [1]}, "is not an evaluation report"),
        ({"corpus": {}}, "is damaged: corpus is missing or invalid"),
        ({"model": None}, "is damaged: model is missing or invalid"),
        ({"metrics": {"nll": 3.0}}, "is damaged: nll is missing or invalid"),
        ({"metrics": {"nll": {"value": "x"}}}, "is damaged: nll is missing or invalid"),
        ({"metrics": {"p_at_1": {"value": 0.5}}, "questions": None}, "is damaged: questions is missing or invalid"),
    ],
)
def test_a_report_of_another_format_or_a_damaged_one_is_refused(make, tmp_path, changes, message):
    make(LIKELIHOOD)
    [directory] = tmp_path.glob("report*")
    with pytest.raises(UserError, match=message):
        compare.read_report(damage(directory, **changes))


def test_a_report_of_format_2_has_its_metrics_under_their_older_name(make, tmp_path):
    report = make(LIKELIHOOD)
    [directory] = tmp_path.glob("report*")
    older = {**report, "format": 2, "figures": report["metrics"], "thesis": {}, "authors_demo": {}}
    del older["metrics"], older["published"]
    (directory / "report.json").write_text(json.dumps(older))
    assert compare.as_markdown([compare.read_report(directory)]) == compare.as_markdown([report])


def test_a_report_from_before_formats_is_to_be_evaluated_again(tmp_path):
    (tmp_path / "report.json").write_text('{"figures": {"nll": {"value": 1.0}}}')
    with pytest.raises(UserError, match="format 1, but 3 is needed; evaluate the model again"):
        compare.read_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is not an evaluation report"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_report_is_refused_without_a_traceback(tmp_path, text, message):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    refused = run(tmp_path)
    assert refused.returncode == 2 and message in refused.stderr and "Traceback" not in refused.stderr
    assert str(tmp_path) in refused.stderr


def test_an_output_that_is_a_file_is_refused(make, tmp_path):
    make(LIKELIHOOD)
    [directory] = tmp_path.glob("report*")
    (tmp_path / "file").write_text("mine")
    refused = run(directory, "--output", tmp_path / "file")
    assert refused.returncode == 2 and "is not a directory" in refused.stderr and "Traceback" not in refused.stderr
    assert (tmp_path / "file").read_text() == "mine"
