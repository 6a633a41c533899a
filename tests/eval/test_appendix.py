"""The page of several models' examples and figures, against what each model decodes by itself."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import smim
from eval import appendix
from smim.errors import UserError
from smim.evaluation import plots
from smim.model.directory import load_model, save_model
from smim.text.corpus import Corpus
from tests.evaluation.reports import Page

QUESTION = "who sold the house"


@pytest.fixture(scope="module")
def models(tiny_model: Path, asking_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same weights as sMIM, sVAE and AE, and a model with another tokenizer that answers questions."""
    autoencoder, tokenizer, _ = load_model(tiny_model)
    folder = tmp_path_factory.mktemp("objectives")
    for name, objective in (("sVAE", "vae"), ("AE", "autoencoder")):
        save_model(folder / name, autoencoder, tokenizer, training={"objective": objective})
    return [f"sMIM={tiny_model}", f"sVAE={folder / 'sVAE'}", f"AE={folder / 'AE'}", f"other={asking_model}"]


def rows(page: Page, heading: list[str]) -> list[list[str]]:
    """The rows of all tables with this heading."""
    return [row for table in page.tables if table[0] == heading for row in table[1:]]


def test_a_page_shows_what_each_model_decodes_of_the_same_sentences(models, tiny_corpus, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(plots, "histograms", lambda panels, output, **_: seen.update(panels))
    monkeypatch.setattr(plots, "melbo_by_set_size", lambda panels, output: seen.update(set_size=panels))
    page = tmp_path / "examples.md"
    sentences = Corpus.open(tiny_corpus).split("test").texts([0, 1, 2])
    appendix.main(models, tiny_corpus, page, sentence=sentences, question=[QUESTION], num=3, steps=3)
    shown = Page(MarkdownIt("commonmark").enable("table").render(page.read_text()))

    decoded = rows(shown, ["model", "code", "sentence"])
    of_noise = [[name, code] for name in ("sMIM", "sVAE") for code in ("(M)", "(R)", "(P)")]
    expected = [["data", "(D)"], *of_noise, ["AE", "(AE)"], *(["other", code] for code in ("(M)", "(R)", "(P)"))]
    assert [row[:2] for row in decoded] == expected * 3
    assert [row[2] for row in decoded if row[0] == "data"] == sentences
    model = smim.load(models[0].partition("=")[2], device="cpu")
    of_mean = [row[2] for row in decoded if row[:2] == ["sMIM", "(M)"]]
    whole = model.decode(model.encode(sentences), allow_unknown=True)
    assert of_mean == [appendix._cut(each) for each in whole] != sentences

    way = rows(shown, ["model", "t", "sentence"])  # the third sentence has no partner
    assert [row[:2] for row in way if row[0] in ("data", "sMIM")] == [
        *(["data", "0"], ["sMIM", "0.00"], ["sMIM", "0.50"], ["sMIM", "1.00"], ["data", "1"]),
    ]
    assert [row[2] for row in way if row[:2] in (["sMIM", "0.00"], ["sMIM", "1.00"])] == of_mean[:2]

    drawn = rows(shown, ["model", "codes from", "sample"])
    kinds = {(name, kind) for name, kind, _ in drawn}
    assert len(drawn) == 18 and kinds == {
        (name, kind) for name in ("sMIM", "sVAE", "other") for kind in ("N(0, 0.1² I)", "the aggregate posterior")
    }
    answers = rows(shown, ["model", "", "text"])
    assert {row[0] for row in answers} == {"other"} and answers[0][1:] == ["(Q)", QUESTION]

    assert [name for name in seen if name != "set_size"] == ["sMIM, MELBO", "sVAE, ELBO", "AE, MELBO", "other, MELBO"]
    melbo = seen["sMIM, MELBO"][""]
    assert melbo == pytest.approx(seen["set_size"]["sMIM"] + 2.302585) and len(melbo) == 10
    assert (tmp_path / "examples_lengths.png").read_bytes() == (tiny_corpus / "lengths.png").read_bytes()


def test_text_around_the_marks_is_kept_and_figures_are_beside(models, tiny_corpus, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- appendix -->\nformer\n<!-- end of appendix -->\n\nafter\n")
    for _ in range(2):
        appendix.main(models[:1], tiny_corpus, page, num=2, longest=20)
        written = page.read_text()
        assert written.startswith("before\n\n<!-- appendix -->\n\n## Reconstructions") and "former" not in written
        assert written.endswith("\n\n<!-- end of appendix -->\n\nafter\n") and "Answers" not in written
    assert {file.name for file in tmp_path.glob("*.png")} == {
        *("page_lengths.png", "page_set_size.png", "page_bounds.png"),
    }


def test_long_decoded_sentences_are_cut():
    assert appendix._table(["a"], [["b " * 39 + "b"]]).endswith(f"| {'b ' * 40}|")
    assert appendix._table(["a"], [["b " * 40 + "b"]]).endswith(f"| {'b ' * 40}… |")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["runs/a/model"]}, "runs/a/model has no name; give LABEL=MODEL"),
        ({"longest": 1}, "split test has 0 sentences of at most 1 words; raise --longest"),
        ({"sentence": ["the house", "the " * 30]}, r"with 30 tokens; the model reads 1 to 20"),
        ({"output": "page.md"}, r"page.md has no <!-- appendix -->"),
    ],
)
def test_what_cannot_be_shown_is_refused(models, tiny_corpus, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text("without marks\n")
    given = {"models": models[:1], "corpus": tiny_corpus, "output": "new.md"} | changes
    with pytest.raises(UserError, match=message):
        appendix.main(**{**given, "output": Path(given["output"])})
    assert Path("page.md").read_text() == "without marks\n"
