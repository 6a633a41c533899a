"""What a model writes where no sentence's code is, beside real sentences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import smim
from eval import compare
from smim import config
from smim.errors import UserError
from smim.evaluation import generativity, run
from smim.evaluation.generativity import GenerativityArgs, choose_pairs, sources_of, write, write_by
from smim.evaluation.groups import BY_DEFAULT
from smim.evaluation.run import EvalArgs
from smim.generation import SentenceModel
from smim.text.corpus import Corpus
from tests.evaluation.conftest import make_job

OURS = ["between", "near", "drawn"]
REAL = ["nearest", "random", "real"]


@pytest.fixture
def args(text, judge) -> GenerativityArgs:
    return GenerativityArgs(judge=str(text.parent / "judge"))


@pytest.fixture(scope="module")
def teacher(text, tmp_path_factory) -> Path:
    """A model of sentence-transformers: a vector for each word, and their mean."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({*text.read_text().split(), "<unk>"})
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    directory = tmp_path_factory.mktemp("teacher") / "words"
    library.SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu"
    ).save_pretrained(str(directory), create_model_card=False)
    return directory


def evaluate(model: Path, corpus: Path, output: Path, *more: str) -> dict:
    overrides = ["eval=generativity", f"model.dir={model}", f"corpus.dir={corpus}", f"output={output}", *more]
    run.main(config.compose("evaluate", overrides))
    return compare.read_report(output)


def test_pairs_are_apart_as_was_asked_for_and_no_sentence_is_in_two():
    vectors = np.random.default_rng(0).standard_normal((60, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = choose_pairs(vectors, 60, least=0.2, most=0.6, seed=0)
    cosines = (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1)
    assert len(pairs) > 20 and 0.2 <= cosines.min() <= cosines.max() <= 0.6
    assert len(np.unique(pairs)) == pairs.size
    assert (choose_pairs(vectors, 60, least=0.2, most=0.6, seed=0) == pairs).all()
    assert not np.array_equal(choose_pairs(vectors, 60, least=0.2, most=0.6, seed=1), pairs)


def test_without_a_teacher_pairs_are_random_and_without_any_pair_there_is_a_message():
    assert np.sort(choose_pairs(None, 6, least=0.2, most=0.6, seed=0).ravel()).tolist() == [*range(6)]
    with pytest.raises(UserError, match=r"no two of the 2 input sentences .* from 0\.2 to 0\.6"):
        choose_pairs(np.eye(2), 2, least=0.2, most=0.6, seed=0)


def test_the_models_own_methods_write(model: SentenceModel, text):
    texts = text.read_text().splitlines()[:4]
    written = write(model, texts, np.array([[0, 3], [2, 1]]), seed=5)
    assert list(written) == OURS
    assert written["between"][1] == model.interpolate(texts[2], texts[1], steps=3)[1]
    assert written["near"][0] == model.perturb(texts[0], num=1, seed=5)[0]
    assert written["drawn"] == model.sample(4, seed=5)


def test_a_model_with_a_meaning_part_writes_from_that_alone_too(meaning_model, text):
    free, texts = smim.load(meaning_model, device="cpu"), text.read_text().splitlines()[:4]
    written = write(free, texts, np.array([[0, 3]]), seed=5)
    assert list(written) == [*OURS, "meaning"]
    assert written["meaning"] == free.decode(free.encode(texts), literal=0.0, seed=5)
    assert written["meaning"] != free.reconstruct(texts)


def test_any_function_of_codes_writes(text):
    codes = np.array([[0.0, 2], [2, 4], [4, 0]], np.float32)
    seen: list[np.ndarray] = []

    def decode(given: np.ndarray) -> list[str]:
        seen.append(given)
        return ["word"] * len(given)

    written = write_by(decode, codes, np.array([[0, 1]]), seed=0)
    assert {kind: len(texts) for kind, texts in written.items()} == {"between": 1, "near": 3, "drawn": 3}
    between, near, _ = seen
    assert between.tolist() == [[1, 3]] and 0 < np.abs(near - codes).max() < 3


def test_sources_are_the_ends_or_the_sentence_itself():
    pairs = np.array([[1, 0]])
    assert sources_of("between", ["a", "b"], pairs) == sources_of("random", ["a", "b"], pairs) == [["b", "a"]]
    assert sources_of("near", ["a", "b"], pairs) == [["a"], ["b"]] and sources_of("drawn", ["a", "b"], pairs) == []


def test_the_report_holds_all_figures_and_what_they_are_of(tiny_model, tiny_corpus, text, judge, teacher, tmp_path):
    (tmp_path / "input.txt").write_text("\n".join([*Corpus.open(tiny_corpus).split("test").texts(), "unheard"]))
    settings = [f"eval.generativity.judge={text.parent / 'judge'}", f"eval.generativity.files=[{tmp_path}/input.txt]"]
    settings += [f"eval.generativity.teacher={teacher}", "eval.generativity.least_cosine=-1"]
    long = Path(evaluate_model(tiny_model, tmp_path))
    report = evaluate(long, tiny_corpus, tmp_path / "report", *settings, "eval.generativity.most_cosine=0.95")
    metrics = report["metrics"]
    assert {f"nats_per_word:{kind}" for kind in [*OURS, *REAL]} <= set(metrics)
    assert {f"cosine_to_source:{kind}" for kind in ["between", "near", "nearest", "random"]} <= set(metrics)
    assert "cosine_to_source:drawn" not in metrics and "length_ratio:drawn" not in metrics
    assert metrics["copied:nearest"]["value"] == metrics["copied:random"]["value"] == 1
    assert metrics["copied:real"]["value"] == 0
    section = report["sections"]["generativity"]
    assert [row[0] for row in section["tables"][0]["rows"]][-1] == "real: input sentences"
    assert judge.hash[:12] in section["notes"][0] and "text.txt" in section["notes"][0]
    assert "0 of 10 input sentences and 40 of 40 training sentences" in section["notes"][0]
    assert "by the teacher `words`" in section["notes"][1]
    assert "1 input sentences are left out" in section["notes"][2]
    assert (tmp_path / "report" / "plots" / "generativity.png").stat().st_size > 0


def evaluate_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model, described as reports need it."""
    from smim.model.directory import load_model, save_model

    model, tokenizer, _ = load_model(tiny_model)
    described = {"objective": "amim", "seed": 0, "step": 0, "epoch": 0, "valid_loss": 0.0}
    save_model(tmp_path / "model", model, tokenizer, training=described)
    return tmp_path / "model"


def test_the_nearest_training_sentence_is_that_of_the_point_midway(tiny_model, tiny_corpus, tmp_path):
    job = make_job(tiny_model, tiny_corpus, tmp_path)
    train = job.train_split
    ends = [["the company sold shares", "a bank bought the new law"]]
    job.work.mkdir(parents=True)
    found = generativity._from_training(job, train, ends)
    middle = job.model.interpolation(*ends[0], steps=3)[1]
    codes = job.model.encode(train.texts())
    cosines = codes @ middle / np.linalg.norm(codes, axis=1)
    assert found["nearest"] == [train.texts()[cosines.argmax()]] and found["random"][0] in train.texts()


def test_without_teacher_and_training_text_their_columns_are_left_out(tiny_model, tiny_corpus, tmp_path, args, plots):
    job = make_job(tiny_model, tiny_corpus, tmp_path, split="train")
    section = generativity.evaluate(job, replace(args, num_sentences=10), plots)
    names = {name.partition(":")[0] for name in section.metrics}
    assert "nats_above_real" in names and not names & {"cosine_to_source", "copied"}
    assert "nearest" not in {name.partition(":")[2] for name in section.metrics}
    assert "5 random pairs. For cosines, give a teacher" in section.notes[1]


def test_it_is_asked_for_by_name_and_asks_for_a_judge(tiny_model, tiny_corpus, tmp_path):
    assert "generativity" not in BY_DEFAULT
    with pytest.raises(UserError, match=r"eval\.generativity\.judge is not set.*smim judge make"):
        evaluate(tiny_model, tiny_corpus, tmp_path / "report")


def test_other_texts_or_another_judge_are_another_report(model, corpus, text, judge, tmp_path):
    (tmp_path / "input.txt").write_text("the company sold shares\na bank")
    settings = GenerativityArgs(judge=str(text.parent / "judge"), files=[str(tmp_path / "input.txt")])
    args = EvalArgs(metrics=["generativity"], generativity=settings)
    before = run._identity(model, corpus, args)
    (tmp_path / "input.txt").write_text("the company sold shares\nthe law")
    assert run._identity(model, corpus, args) != before


def test_too_few_sentences_that_the_model_can_read_are_refused(tiny_model, tiny_corpus, tmp_path, args, plots):
    (tmp_path / "input.txt").write_text("unheard\nthe company")
    job = make_job(tiny_model, tiny_corpus, tmp_path)
    with pytest.raises(UserError, match="of 2 input sentences the model can read 1"):
        generativity.evaluate(job, replace(args, files=[str(tmp_path / "input.txt")]), plots)
