"""The report's three files, from sections made by hand: what was put in comes out, in JSON and on both pages."""

import base64
import io
import json
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from eval import thesis
from smim import storage
from smim.evaluation import report
from smim.evaluation.groups import definition, definitions
from smim.evaluation.markup import literal, rounded, table, with_error
from smim.evaluation.reference import published
from smim.evaluation.section import Metric, Section, Table
from tests.evaluation.reports import Page, content, metrics, write

NASTY = [
    "a | b || c",
    "`code` ``more`` `",
    "the <unk> of <unk>",
    "*bold* **x** _y_ __z__ ~~gone~~",
    "<script>alert(1)</script>",
    "[link](http://example.org) ![image](x.png) <http://example.org>",
    "back\\slash \\| \\",
    "&amp; &lt; & &#65;",
    "# not a heading #",
    "$ 5 million , $x$",
    "1. one - two + three > four",
    "| --- | --- |",
]


@pytest.fixture
def output(tmp_path) -> Path:
    (tmp_path / "plots").mkdir()
    return tmp_path / "report"


def pages(output: Path) -> list[Page]:
    """Both pages: report.html, and report.md as any renderer of Markdown with tables shows it."""
    markdown = MarkdownIt("commonmark").enable("table").render((output / "report.md").read_text())
    return [Page((output / "report.html").read_text()), Page(markdown)]


def add_plot(output: Path, name: str) -> bytes:
    file = output.parent / "plots" / name
    Image.new("RGB", (3, 2)).save(file)
    return file.read_bytes()


def test_every_metric_is_in_the_json_and_on_both_pages_but_for_what_tables_show(output):
    of_label = {"knn_accuracy:topic", "majority_accuracy:to|p`i c"}
    defined = set(definitions())
    names = sorted(defined - {"knn_accuracy", "majority_accuracy"} | of_label)
    written = write(output, metrics(**{name: 1.5 + i for i, name in enumerate(names)}))
    assert set(written["metrics"]) == set(names)
    for page in pages(output):
        for i, name in enumerate(names):
            if definition(name).in_tables:
                assert not page.rows(name)
                continue
            row = page.rows(name)[-1]
            assert float(row["ours"].partition(" ±")[0]) == pytest.approx(1.5 + i, abs=0.01) and row["meaning"], name


def test_a_metric_is_written_with_its_errors_number_unit_group_and_seed(output):
    written = write(output, metrics(nll=66.93))
    assert written["format"] == 3
    assert written["metrics"]["nll"] == {
        **{"value": 66.93, "standard_error": 0.41, "n": 3761, "runs": 10, "stdev_over_runs": 0.0123},
        **{"unit": "nats/sentence", "section": "likelihood", "seed": 3},
    }
    for page in pages(output):
        glance, full = page.rows("nll")
        assert glance["ours"] == "66.93 ± 0.41" and glance["unit"] == "nats/sentence"
        assert full["ours"] == "66.93 ± 0.41" and "N = " not in full["meaning"]


def test_a_metric_without_a_standard_error_stands_alone(output):
    write(output, metrics(bleu1_greedy=Metric(0.625, None, n=10), active_units_relative=Metric(12.0, None, n=10)))
    page = pages(output)[0]
    glance, full = page.rows("bleu1_greedy")
    assert glance["ours"] == full["ours"] == "0.625" and full["meaning"].endswith("; N = 10")
    assert page.rows("active_units_relative")[0]["ours"] == "12 of 512"


def test_the_thesis_and_the_authors_demo_stand_beside_ours(output):
    written = write(output, metrics(nll=66.93, bleu1_sampled=0.6, kl=2300.0))
    assert written["published"] == {
        "thesis": {"nll": 67.46, "ppl_thesis": 19.53, "bleu1_sampled": 0.679},
        "authors' demo": {"nll": 66.9, "bleu1_sampled": 0.623},
    }
    for row in pages(output)[0].rows("nll"):
        assert (row["thesis"], row["authors' demo"]) == ("67.46", "66.9")
    for row in pages(output)[0].rows("kl"):
        assert (row["thesis"], row["authors' demo"]) == ("", "")


@pytest.mark.parametrize(
    "described",
    [
        content(split="valid"),
        content(corpus="demo"),
        content(trained_on="yahoo"),
        content(sentences=500, settings={"max_sentences": 500}),
    ],
    ids=["another split", "another corpus", "trained elsewhere", "a part of the sentences"],
)
def test_other_sentences_or_trainings_have_no_published_metrics_beside(output, described):
    written = write(output, metrics(nll=66.93), described)
    assert not any(written["published"].values())
    assert "thesis" not in pages(output)[0].rows("nll")[0]


def test_questions_of_another_corpus_have_its_published_metrics(output, tmp_path):
    storage.write_json(tmp_path / "qa" / "corpus.json", {"name": "yahoocqa"})
    settings = {"answering": {"corpus": str(tmp_path / "qa"), "split": "test"}, "max_sentences": 3761}
    written = write(output, metrics(p_at_1=0.6, mrr=0.8), content(corpus="yahoo", settings=settings))
    assert written["questions"]["name"] == "yahoocqa" and written["questions"]["split"] == "test"
    assert written["questions"]["hash"] == storage.sha256(tmp_path / "qa" / "corpus.json")
    assert written["published"]["thesis"] == {"p_at_1": 0.683, "mrr": 0.818}


@pytest.mark.parametrize(
    ("model", "trained_on", "expected"),
    [
        (("ptb", "amim", 512), None, {"nll": 67.46, "ppl_thesis": 19.53, "bleu1_sampled": 0.679}),
        (("ptb", "amim", 16), None, {"nll": 98.35, "ppl_thesis": 76.3, "bleu1_sampled": 0.35, "latent_entropy": 11.54,
                                     "latent_entropy_normal": 22.7}),
        (("ptb", "vae", 16), None, {"nll": 113.46, "ppl_thesis": 148.18, "bleu1_sampled": 0.124}),
        (("yahoo", "vae", 32), None, {"nll": 329.26, "ppl_thesis": 84.81, "bleu1_sampled": 0.181}),
        (("ptb", "autoencoder", 128), None, {"bleu1_sampled": 0.589, "latent_entropy": 259.34,
                                             "latent_entropy_normal": 181.62}),
        (("yahoo", "autoencoder", 1024), "yahoo", {"bleu1_sampled": 0.394}),
        (("ptb", "amim", 1024), "everything", {"nll": 34.66, "ppl_thesis": 4.6, "bleu1_sampled": 0.724}),
        (("ptb", "amim", 1024), None, {}),
        (("ptb", "amim", 512), "everything", {}),
        (("ptb", "amim", 64), None, {}),
        (("demo", "amim", 512), None, {}),
        (("yahoocqa", "amim", 512), "yahoo", {"p_at_1": 0.683, "mrr": 0.818}),
        (("yahoocqa", "autoencoder", 512), "yahoo", {"p_at_1": 0.58, "mrr": 0.814}),
        (("yahoocqa", "amim", 1024), "everything", {"p_at_1": 0.753, "mrr": 0.861}),
        (("yahoocqa", "amim", 512), "ptb", {}),
        (("yahoocqa", "vae", 512), "yahoo", {}),
    ],
)  # fmt: skip
def test_the_thesis_metrics_are_those_of_the_same_corpora_method_and_size(model, trained_on, expected):
    corpus, *model = model
    assert published(thesis.rows(), [corpus], *model, trained_on)["thesis"] == expected


def test_the_authors_demo_has_only_what_it_publishes():
    def demo(corpus: str, *model: object) -> dict[str, float]:
        return published(thesis.rows(), [corpus], *model)["authors' demo"]

    assert demo("ptb", "autoencoder", 512) == {"bleu1_sampled": 0.575}
    assert demo("ptb", "vae", 16) == {"nll": 107.4, "bleu1_sampled": 0.088}
    assert demo("yahoo", "amim", 512) == {}


def test_without_a_reference_a_report_has_no_column_for_it(output):
    report.write_report(output, content(), metrics(nll=66.93), output.parent / "plots")
    assert "thesis" not in pages(output)[0].rows("nll")[0]


def test_the_page_says_of_a_metric_where_it_is_defined_and_what_is_better(output):
    write(output, metrics(nll=66.93))
    glance, full = pages(output)[0].rows("nll")
    bound = "MELBO bound: reconstruction and log N, <eos> left out"
    assert full["meaning"] == f"{bound} (eq. 6.17); lower is better"
    assert glance["meaning"] == f"{bound}; a perfect autoencoder scores log N = 8.23 here; lower is better"


def test_a_metric_with_a_large_error_is_marked_at_a_glance(output):
    def of(name: str, value: float, error: float) -> str:
        write(output, metrics(**{"nll": 66.93, name: Metric(value, error, n=3761)}))
        return pages(output)[0].rows(name)[0]["meaning"]

    warning = "(too uncertain to compare; evaluate more sentences"
    marked = of("ppl_thesis", 3827, 2236)
    assert marked.startswith(f"{warning}, or look at nll) perplexity") and "a few sentences" in marked
    assert of("bleu1_greedy", 0.4, 0.101).startswith(f"{warning}) sentence BLEU-1")
    assert "uncertain" not in of("bleu1_greedy", 0.4, 0.1)
    assert "uncertain" not in of("latent_entropy", 0.4, 3.0)  # of which 0 is no end


def test_the_page_begins_with_the_verdict_and_sentences_beside_their_reconstructions(output):
    samples = Table("Some", ["tokens", "sentence", "from its code"], [["2", "a *b*", "a c"]])
    model = {"train_sentences": 42_068, "history": {"unfinished": True}}
    values = {name: Metric(0.3, 0.01, n=3761) for name in ("bleu1_mean", "bleu1_greedy")}
    found = Section("Reconstruction", values, samples=samples)
    written = write(output, {"reconstruction": found}, content(model=model))
    assert written["verdict"]["kind"] == "undertrained" and written["sections"]["reconstruction"]["samples"]
    for page in pages(output):
        order = ["Not trained enough.", "What to do. Continue", "Some:", "42,068 sentences of ptb", "At a glance"]
        places = [page.text.index(part) for part in order]
        assert places == sorted(places)
        assert page.rows("2") == [{"tokens": "2", "sentence": "a *b*", "from its code": "a c"}]


def test_a_report_without_what_a_verdict_needs_has_none(output):
    assert write(output, metrics(nll=66.93))["verdict"] is None
    assert "What to do" not in (output / "report.md").read_text()


def test_a_wide_table_is_parted_into_tables_of_six_columns(output):
    wide = Table("Wide", ["set", *"abcdefg"], [["one", *"1234567"]])
    write(output, {"a": Section("A", tables=[wide])})
    for page in pages(output):
        assert page.rows("one") == [
            {"set": "one", "a": "1", "b": "2", "c": "3", "d": "4", "e": "5"},
            {"set": "one", "f": "6", "g": "7"},
        ]


def test_text_of_users_comes_out_as_it_is_on_both_pages(output):
    sentences = Table("Sentences", ["original", "again"], [[text, f"again {text}"] for text in NASTY])
    name = "c|o<r>p`us*"
    write(output, {"examples": Section("Examples", tables=[sentences])}, content(corpus=name))
    for page in pages(output):
        for text in NASTY:
            assert page.rows(text) == [{"original": text, "again": f"again {text}"}]
        assert f"sMIM (512) on {name}, test" in page.text
        assert {tag for tag, _ in page.elements}.isdisjoint({"script", "strong", "s", "unk"})


def test_a_line_break_in_a_text_is_shown_and_breaks_no_table(output):
    sentences = Table("Sentences", ["text", "n"], [["one\ntwo\r\nthree\u2028four", "1"], ["\n", "2"], ["", "3"]])
    write(output, {"examples": Section("Examples", tables=[sentences])})
    for page in pages(output):
        shown = next(rows for rows in page.tables if rows[0] == ["text", "n"])
        assert [[cell.strip() for cell in row] for row in shown[1:]] == [
            ["one ↵ two ↵ three ↵ four", "1"],
            ["↵", "2"],
            ["", "3"],
        ]


def test_code_in_headers_titles_and_captions_is_code_and_the_rest_text(output):
    add_plot(output, "x.png")
    bounds = Table("Bounds of <x> with `<eos>`", ["log p(x_i|z_j)", "`p|q` with `<eos>`"], [["1", "2"]])
    write(output, {"a": Section("A *b*", tables=[bounds], plots={"x.png": "As Figure 7.1: `p|q` of z_i, z_j"})})
    for page in pages(output):
        assert "Bounds of <x> with <eos>" in page.text and "A *b*" in page.text
        assert page.rows("1") == [{"log p(x_i|z_j)": "1", "p|q with <eos>": "2"}]
        assert "As Figure 7.1: p|q of z_i, z_j" in page.text


def test_notes_are_markdown_without_html(output):
    write(output, {"a": Section("A", notes=["**loud** and `code`, <b>not bold</b>", "second"])})
    page = Page((output / "report.html").read_text())
    assert "loud and code, <b>not bold</b>" in page.text
    assert [tag for tag, _ in page.elements].count("strong") == 1
    assert "b" not in [tag for tag, _ in page.elements]


def test_the_html_page_needs_nothing_but_itself(output):
    png = add_plot(output, "curve.png")
    add_plot(output, "unused.png")
    notes = ["See [a page](http://example.org), [a file](../x.md) and ![a picture](http://example.org/x.png)."]
    write(output, {"a": Section("A", notes=notes, plots={"curve.png": "A curve"}), **metrics(nll=66.9)})
    page = Page((output / "report.html").read_text())
    links = [value for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href")]
    anchors = {f"#{attrs['id']}" for _, attrs in page.elements if "id" in attrs}
    assert {link for link in links if link.startswith("#")} == anchors
    [image] = [link for link in links if not link.startswith("#")]
    assert base64.b64decode(image.removeprefix("data:image/png;base64,")) == png
    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object"})
    style = (output / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style
    assert (output / "plots" / "curve.png").read_bytes() == png
    assert sorted(path.name for path in output.iterdir()) == ["plots", "report.html", "report.json", "report.md"]


def test_the_contents_lead_to_every_part(output):
    write(output, {"a": Section("Alpha", tables=[Table("Beta", ["x"], [["y"]])]), **metrics(nll=66.9)})
    html = (output / "report.html").read_text()
    contents = Page(html.partition("<nav")[2].partition(">")[2].partition("</nav>")[0]).text.split("\n")
    assert [line for line in contents if line] == [
        *("At a glance", "Alpha", "Beta", "Likelihood", "What MELBO is, and is not", "Provenance")
    ]


def test_the_page_says_what_melbo_is_and_names_the_bounds_that_are_there(output):
    write(output, metrics(nll=66.93, nll_elbo=2300.0, nll_iw=400.0))
    text = (output / "report.md").read_text()
    assert "aggregate posterior of the evaluated set itself" in text
    assert "log N = 8.23 nats" in text and "grows with log N" in text and "transductive" in text
    assert "not comparable to a language model's" in text and "never compare them across tokenizers" in text
    assert "`nll_iw` (the model's own prior" in text and "`nll_train_prior` (" not in text


def test_a_report_without_the_bound_does_not_speak_of_it(output):
    write(output, metrics(bleu1_greedy=0.6))
    assert "MELBO" not in (output / "report.md").read_text()


def test_the_page_says_what_was_evaluated_and_where_it_comes_from(output):
    described = content(retokenized=True, unknown_share=0.0123, settings={"likelihood": {"num_samples": 4}})
    written = write(output, metrics(nll=66.93), described)
    text = pages(output)[0].text
    assert "3,761 sentences of ptb, test; 81,642 tokens, 21.7 tokens a sentence (<eos> not counted)" in text
    assert "encoded again with the model's tokenizer" in text and "1.23% of the tokens" in text
    assert "12,092,893 parameters" in text and "21,034 steps" in text
    assert "likelihood.num_samples=4" in text and "likelihood 61.2 s" in text and "a" * 12 in text
    assert written["environment"]["command"] in text
    assert {"python", "torch", "numpy", "scikit-learn"} <= set(written["environment"]["versions"])
    assert any(name.startswith("faiss") for name in written["environment"]["versions"])


def test_a_new_report_takes_the_place_of_the_old_one_whole(output):
    add_plot(output, "x.png")
    write(output, {"a": Section("A", plots={"x.png": "X"})})
    write(output, metrics(nll=66.9))
    assert list((output / "plots").iterdir()) == []
    assert "plots/x.png" not in (output / "report.html").read_text()


def test_a_report_that_cannot_be_written_leaves_the_old_one(output):
    before = write(output, metrics(nll=66.9))
    with pytest.raises(FileNotFoundError):
        write(output, {"a": Section("A", plots={"missing.png": "X"})})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(output, metrics(nll=float("nan")))
    assert json.loads((output / "report.json").read_text()) == before


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (66.931234, 0.41234, ("66.93", "0.41")),
        (66.931234, 0.0996, ("66.93", "0.10")),
        (0.62345, 0.0049, ("0.6234", "0.0049")),
        (123456.7, 123.4, ("123457", "123")),
        (-8.5, 0.02, ("-8.500", "0.020")),
        (66.931234, None, ("66.931", "")),
        (66.931234, 0.0, ("66.931", "0")),
        (512.0, None, ("512", "")),
        (100_000.3, None, ("100000", "")),
        (0.0, 0.0, ("0", "0")),
        (1.23456e-7, 3.2e-9, ("1.2346e-07", "3.2e-09")),
        (8.2e307, 1e306, ("8.2e+307", "1e+306")),
    ],
)
def test_numbers_have_the_digits_that_their_errors_leave_them(value, error, shown):
    assert rounded(value, error) == shown


def test_columns_of_numbers_and_of_short_words_are_told_from_text():
    lines = table(
        ["word", "number", "text", "none"], [["ab", "1.5 ± 0.2", "x" * 40, ""], ["", "", "1", ""]]
    ).splitlines()
    assert lines[1] == "| :--- | ---: | --- | :--- |"
    assert table(["a", "b"], [["", "1"]], optional=("a",)) == "| b |\n| ---: |\n| 1 |"


def test_a_value_without_error_has_no_plus_minus():
    assert with_error(66.931234, 0.41) == "66.93 ± 0.41" and with_error(66.931234, None) == "66.931"


@pytest.mark.parametrize("text", NASTY)
def test_literal_text_stays_text_in_a_heading_and_in_emphasis(text):
    render = MarkdownIt("commonmark").enable("table").render
    assert Page(render(f"## {literal(text)}")).text.strip() == text
    assert Page(render(f"x *{literal(text)}*")).text.strip() == f"x {text}"


def test_a_metric_belongs_to_one_group():
    twice = {"a": Section("A", {"kl": Metric(1.0, None, n=1)}), "b": Section("B", {"kl": Metric(2.0, None, n=1)})}
    with pytest.raises(AssertionError, match="kl is a metric of b and of a"):
        report.assemble(content(), twice)
