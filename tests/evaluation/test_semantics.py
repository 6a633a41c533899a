"""The metric group of meaning in an evaluation job: its report, what stands beside the code, and refusals."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import smim
from eval import compare
from smim import config
from smim.errors import UserError
from smim.evaluation import run
from smim.evaluation.semantics import SemanticsArgs, check
from smim.model.directory import save_model
from smim.model.registry import make_args, make_model
from smim.text.corpus import Corpus
from tests.evaluation.reports import Page
from tests.scripts import run_script

QUICK = ["eval=codes", "eval.semantics.bootstrap_samples=20"]


def made_of(texts: list[str], split: str) -> dict[str, list[tuple[object, ...]]]:
    """Sets of a dozen lines each, by name, of the tiny corpus's sentences."""
    one, other = texts[:12], texts[12:24]
    words = [len({*a.split()} & {*b.split()}) for a, b in zip(one, other, strict=True)]
    return {
        f"likeness-{split}": list(zip(words, one, other, strict=True)),
        f"same-{split}": [(row % 2, a, a if row % 2 else b) for row, (a, b) in enumerate(zip(one, other, strict=True))],
        f"topics-{split}": [("shares" in text, text) for text in texts[:24]],
        f"asked-{split}": [(row // 2, row % 2, one[row // 2], other[row]) for row in range(12)],
    }


@pytest.fixture(scope="module")
def sets(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    texts = corpus.split("train").texts()
    files = made_of(texts, "train") | made_of(texts[10:], "dev") | made_of(texts[16:], "test")
    for name, rows in files.items():
        lines = ["\t".join(str(int(field) if isinstance(field, bool) else field) for field in row) for row in rows]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "pairs-dev.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in zip(texts[:9], texts[9:18], strict=True)))
    (folder / "pairs-test.tsv").write_text(f"{texts[0]}\t{texts[1]}\n{texts[2]}\t{texts[3]}\n")
    return folder


def arguments(model: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    return [f"model.dir={model}", f"corpus.dir={corpus}", f"output={output}", *QUICK, *more]


def evaluate(*given: Path | str) -> dict:
    run.main(config.compose("evaluate", arguments(*given)))
    return compare.read_report(Path(given[2]))


@pytest.fixture(scope="module")
def report(long_model, tiny_corpus, sets, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("report") / "one"
    evaluate(long_model, tiny_corpus, output, f"eval.semantics.sets={sets}")
    return output


def test_every_kind_of_set_has_its_metrics(report):
    found = compare.read_report(report)["metrics"]
    assert {name for name in found if "_by:" not in name} == {
        "spearman:likeness-dev",
        *(f"{name}:same-dev" for name in ("average_precision", "paraphrase_accuracy", "paraphrase_f1", "hit_at_1")),
        *(f"{name}:{of}-dev" for name in ("probe_accuracy", "neighbour_accuracy") for of in ("same", "topics")),
        "answer_mrr:asked-dev",
        "hit_at_1:pairs-dev",
        *(f"word_for_word:{name}-dev" for name in ("likeness", "same", "topics", "pairs")),
    }
    ways = {name.partition("/")[2] for name in found if name.startswith("spearman_by")}
    assert ways == {"code-l2", "code-inner_product", "TF-IDF", "random"}
    assert {"hit_at_1_by:pairs-dev/BM25", "answer_mrr_by:asked-dev/BM25"} <= set(found)
    assert found["spearman:likeness-dev"]["standard_error"] > 0
    # Equal texts have equal codes, and of random ones no others do.
    assert found["average_precision_by:same-dev/random"]["value"] == 1


def test_metrics_are_those_of_the_models_means(report, long_model, sets):
    from scipy.stats import spearmanr

    found = compare.read_report(report)["metrics"]
    scores, *texts = zip(
        *(line.split("\t") for line in (sets / "likeness-dev.tsv").read_text().splitlines()), strict=True
    )
    model = smim.load(long_model, device="cpu")
    one, other = map(model.encode, texts)
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    judged = np.array(scores, dtype=float)
    assert found["spearman:likeness-dev"]["value"] == pytest.approx(spearmanr(judged, cosine).statistic)
    l2 = spearmanr(judged, -np.linalg.norm(one - other, axis=1)).statistic
    assert found["spearman_by:likeness-dev/code-l2"]["value"] == pytest.approx(l2)
    sentences = list(dict.fromkeys(texts[0] + texts[1]))
    exact = [text == back for text, back in zip(sentences, model.reconstruct(sentences), strict=True)]
    assert found["word_for_word:likeness-dev"]["value"] == pytest.approx(np.mean(exact))


def test_the_page_shows_ways_in_tables_and_has_plots(report):
    page = Page((report / "report.html").read_text())
    [at_a_glance, _] = page.rows("spearman:likeness-dev")
    assert at_a_glance["ours"] and not page.rows("spearman_by:likeness-dev/TF-IDF")
    assert [row.get("likeness-dev") for row in page.rows("TF-IDF")].count(None) < len(page.rows("TF-IDF"))
    assert page.rows("topics-dev")[0]["kind"] == "classes"
    assert {path.name for path in (report / "plots").iterdir()} == {"similarity.png", "meaning.png"}
    assert "Spearman, likeness-dev" in compare.as_markdown([compare.read_report(report)])


def test_test_is_evaluated_where_it_is_asked_for_alone(long_model, tiny_corpus, sets, tmp_path):
    more = [f"eval.semantics.sets=[{sets / 'same-dev.tsv'},{sets / 'same-test.tsv'}]", "eval.semantics.split=test"]
    found = evaluate(long_model, tiny_corpus, tmp_path / "report", *more, "eval.semantics.word_for_word=false")[
        "metrics"
    ]
    assert {name.partition(":")[2] for name in found if "_by:" not in name} == {"same-test"}
    assert "word_for_word:same-test" not in found


def test_several_processes_give_the_same_report(report, long_model, tiny_corpus, sets, tmp_path):
    given = arguments(long_model, tiny_corpus, tmp_path / "report", f"eval.semantics.sets={sets}")
    finished = run_script("eval/run.py", given, processes=2, timeout=200)
    assert finished.returncode == 0, finished.stderr
    one, two = (compare.read_report(path)["metrics"] for path in (report, tmp_path / "report"))
    assert one.keys() == two.keys()
    assert all(two[name]["value"] == pytest.approx(metric["value"], abs=1e-5) for name, metric in one.items())


def test_a_meaning_part_is_measured_by_itself(tiny_corpus, sets, tmp_path):
    corpus = Corpus.open(tiny_corpus)
    torch.manual_seed(0)
    args = make_args(
        {
            **{"decoder": "superposition", "latent_dim": 64, "embedding_dim": 16, "hidden_dim": 32, "num_layers": 1},
            **{"num_heads": 2, "tied_output": True},
            "encoder": {"name": "superposition", "meaning": {"dim": 16, "table_dim": 16}},
        }
    )
    model = make_model(args, input_size=corpus.tokenizer.vocabulary_size)
    training = {"objective": "amim", "corpus": "tiny", "seed": 0, "step": 0, "epoch": 0, "valid_loss": 0.0}
    save_model(tmp_path / "model", model, corpus.tokenizer, training=training)
    only = f"eval.semantics.sets={sets / 'likeness-dev.tsv'}"
    found = evaluate(tmp_path / "model", tiny_corpus, tmp_path / "report", only)["metrics"]
    of_meaning = {name: metric["value"] for name, metric in found.items() if "/meaning" in name}
    assert set(of_meaning) == {f"spearman_by:likeness-dev/meaning{way}" for way in ("", "-l2", "-inner_product")}
    assert of_meaning["spearman_by:likeness-dev/meaning"] != found["spearman:likeness-dev"]["value"]


def test_other_models_stand_beside_under_their_directorys_name(long_model, tiny_corpus, sets, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    modules = library.sentence_transformer.modules
    bag = library.SentenceTransformer(modules=[modules.BoW(vocab=["shares", "law", "house", "bank"])], device="cpu")
    bag.save(str(tmp_path / "bag" / "model"))
    more = [f"eval.semantics.sets={sets / 'topics-train.tsv'}", f"eval.semantics.models=[{tmp_path / 'bag' / 'model'}]"]
    found = evaluate(long_model, tiny_corpus, tmp_path / "report", *more)["metrics"]
    assert found["neighbour_accuracy_by:topics-dev/bag"]["value"] > 0.9


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"eval.semantics.sets is not set; give a folder"),
        (["eval.semantics.sets=[]"], r"eval.semantics.sets is not set"),
        (["eval.semantics.sets=missing"], r"no text file at missing"),
        (["eval.semantics.sets={sets}", "eval.semantics.split=train"], r"eval.semantics.split is 'train'; valid: dev"),
        (
            ["eval.semantics.sets={sets}", "eval.semantics.models=[a/b/c]"],
            r"models=a/b/c: .*is not a model's name on the hub",
        ),
        (
            ["eval.semantics.sets={sets}", "eval.semantics.models=[a/b,c/b]"],
            r"the last parts of their names",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_anything_else_is(
    long_model, tiny_corpus, sets, tmp_path, more, message
):
    with pytest.raises(UserError, match=message):
        evaluate(long_model, tiny_corpus, tmp_path / "report", *(each.format(sets=sets) for each in more))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_library_that_is_missing_is_named_with_how_to_get_it(monkeypatch, sets):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        UserError, match=r"eval.semantics.models=minilm: .*sentence_transformers.*pip install 'smim\[hub\]'"
    ):
        check(SemanticsArgs(sets=str(sets), models=["minilm"]))


def test_changed_sets_make_another_job(long_model, tiny_corpus, tmp_path):
    file = tmp_path / "one-dev.tsv"
    file.write_text("1.5\ta bank\tthe law\n2\tthe law\ta bank\n")
    args = run.EvalArgs(metrics=["semantics"], semantics=SemanticsArgs(sets=str(file)))
    model, corpus = smim.load(long_model), Corpus.open(tiny_corpus)
    before = run._identity(model, corpus, args)
    file.write_text("1.5\ta bank\tthe law\n3\tthe law\ta bank\n")
    assert run._identity(model, corpus, args) != before


def test_of_large_sets_some_sentences_are_decoded(report, long_model, tiny_corpus, sets, tmp_path):
    more = [f"eval.semantics.sets={sets}", "eval.semantics.max_decoded=3"]
    found = evaluate(long_model, tiny_corpus, tmp_path / "report", *more)["metrics"]
    everything = compare.read_report(report)["metrics"]
    assert everything["word_for_word:likeness-dev"]["n"] > 3
    assert {found[name]["n"] for name in found if name.startswith("word_for_word")} == {3}
    assert found["spearman:likeness-dev"] == everything["spearman:likeness-dev"]
