"""Question answering against rankings made by hand, and against the same scores computed another way."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from smim.errors import UserError
from smim.evaluation import answering
from smim.evaluation.answering import AnsweringArgs, mrr, p_at_1, ranks
from smim.model.directory import load_model, save_model
from smim.text.corpus import Corpus
from tests.corpora import write_corpus
from tests.evaluation.conftest import make_job

ANSWERS = [
    "the company sold shares",
    "a bank bought the new law",
    "her brother lost a small house",
    "shares",
    "lost law",
]
QUESTIONS = ["a bank", "the old minister wrote about", "the company never liked"]


def rows(questions=QUESTIONS, answers=ANSWERS, right=(4,)) -> list[dict[str, str]]:
    """Each question with every answer; those at the places `right` are right."""
    return [
        {
            "text": f"{question} ? {answer}",
            "group": str(group),
            "label": str(int(place in right)),
            "question": question,
            "answer": answer,
        }
        for group, question in enumerate(questions)
        for place, answer in enumerate(answers)
    ]


@pytest.fixture
def pairs(tiny_corpus, tmp_path):
    """Writes pairs as a corpus with the tiny corpus's vocabulary."""
    tokenizer = Corpus.open(tiny_corpus).tokenizer

    def write(name: str, content: list[dict[str, str]]) -> Path:
        write_corpus(tmp_path / name, {"test": content}, tokenizer, name=name)
        return tmp_path / name

    return write


@pytest.fixture
def candidates(pairs):
    def read(content: list[dict[str, str]]) -> answering.Candidates:
        return answering.read_candidates(Corpus.open(pairs("candidates", content)).split("test"))

    return read


def evaluate(job, plots, **args):
    return answering.evaluate(job, AnsweringArgs(**args), plots)


def model_scores(job) -> tuple[dict[str, np.ndarray], answering.Candidates]:
    found = answering.read_candidates(job.split)
    *pairs, _ = answering.encode(job.model.tokenizer, found, limit=job.model.autoencoder.args.max_length)
    return answering.model_scores(job, found, *pairs), found


def test_the_smallest_score_ranks_first():
    scores = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [5.0, 4.0], [4.0, 5.0]])
    right = np.array([False, True, False, False, True])
    found = ranks(scores, right, np.array([0, 0, 0, 1, 1]))
    assert found.tolist() == [[2, 2], [1, 2]]
    assert p_at_1(found).mean(0).tolist() == [0.5, 0]
    assert mrr(found).mean(0).tolist() == [0.75, 0.5]


def test_equal_scores_count_against_the_right_answer():
    right = np.array([True, False, False, False])
    assert ranks(np.array([[1.0], [1], [1], [2]]), right, np.zeros(4, int)).tolist() == [[3]]


def test_the_best_of_several_right_answers_is_ranked():
    right = np.array([True, False, True, False])
    assert ranks(np.array([[4.0], [3], [2], [1]]), right, np.zeros(4, int)).tolist() == [[2]]
    assert ranks(np.array([[1.0], [3], [1], [2]]), right, np.zeros(4, int)).tolist() == [[1]]


@pytest.mark.parametrize("right", [(0,), (1, 3), (0, 1, 2, 3, 4)])
def test_random_order_is_the_mean_over_all_orders(candidates, right):
    first, reciprocal = answering.random_order(candidates(rows(QUESTIONS[:1], right=right)))
    best = [1 + min(order.index(place) for place in right) for order in permutations(range(5))]
    assert first[0] == pytest.approx(np.mean(np.array(best) == 1))
    assert reciprocal[0] == pytest.approx(np.mean(1 / np.array(best)))


def test_distance_is_divided_by_each_dimensions_sigma():
    sigma, zero = torch.tensor([[3.0, 0.5]]), torch.zeros(1, 2)
    found = answering.distance(zero, torch.tensor([[9.0, 2.0]]), sigma)
    assert found.dtype == torch.float64 and found.tolist() == [5.0]


def test_scores_are_those_of_the_texts(tiny_model, pairs, tmp_path):
    job = make_job(tiny_model, pairs("pairs", rows()), tmp_path)
    scores, found = model_scores(job)
    for row, (question, answer) in enumerate(zip(found.questions, found.answers, strict=True)):
        hidden = " ".join(["<unk>"] * len(answer.split()))
        answered, unknown = (job.model.posterior([f"{question} ? {end}"]) for end in (answer, hidden))
        expected = ((unknown.mean - answered.mean) / unknown.standard_deviation).norm()
        assert scores["_mean"][row] == pytest.approx(expected.item(), rel=1e-4)


def test_draws_have_the_moments_of_their_gaussians(tiny_model, pairs, tmp_path):
    job = make_job(tiny_model, pairs("pairs", rows(QUESTIONS[:1])), tmp_path, num_runs=400)
    scores, found = model_scores(job)
    hidden = "<unk> " * len(found.answers[0].split())
    answered, unknown = (job.model.posterior([f"{QUESTIONS[0]} ? {end}"]) for end in (found.answers[0], hidden))
    # E || (z_unk - z_qa) / sigma_unk ||^2 and E[-log q_unk(z_qa)], in closed form.
    ratio = ((answered.mean - unknown.mean).square() + answered.log_variance.exp()) / unknown.log_variance.exp()
    expected = {"": (ratio + 1).sum(), "_log_posterior": unknown.entropy() + 0.5 * (ratio - 1).sum()}
    draws = {"": scores[""][0] ** 2, "_log_posterior": scores["_log_posterior"][0]}
    for method, values in draws.items():
        assert abs(values.mean() - expected[method].item()) < 4 * values.std() / np.sqrt(len(values)), method


def test_the_order_of_the_rows_plays_no_part(tiny_model, pairs, tmp_path, plots):
    content = rows()
    shuffled = [content[i] for i in np.random.default_rng(0).permutation(len(content))]
    sections = [
        evaluate(make_job(tiny_model, pairs(name, part), tmp_path / f"{name}_job", num_runs=20), plots)
        for name, part in (("ordered", content), ("shuffled", shuffled))
    ]
    assert sections[0].metrics == sections[1].metrics
    assert sections[0].metrics["p_at_1"].stdev_over_runs > 0


def test_a_pairs_draws_are_its_own_whatever_the_other_pairs(tiny_model, pairs, tmp_path):
    def scores_of_last(name, content):
        job = make_job(tiny_model, pairs(name, content), tmp_path / f"{name}_job")
        return model_scores(job)[0][""][-5:]

    alone = scores_of_last("alone", rows(QUESTIONS[2:]))
    np.testing.assert_allclose(scores_of_last("together", rows()), alone, rtol=1e-5)
    assert len(np.unique(alone)) == alone.size


def test_an_autoencoders_sigma_is_one(tiny_model, pairs, tmp_path, plots):
    autoencoder, tokenizer, config = load_model(tiny_model)
    save_model(tmp_path / "ae", autoencoder, tokenizer, training={**config["training"], "objective": "autoencoder"})
    job = make_job(tmp_path / "ae", pairs("pairs", rows()), tmp_path, num_runs=3)
    scores, found = model_scores(job)
    both = list(zip(found.questions, found.answers, strict=True))
    texts = [f"{question} ? {answer}" for question, answer in both]
    hidden = [f"{question} ? " + "<unk> " * len(answer.split()) for question, answer in both]
    expected = np.linalg.norm(job.model.encode(texts) - job.model.encode(hidden), axis=1)
    assert list(scores) == [""]
    np.testing.assert_allclose(scores[""][:, 0], expected, rtol=1e-4)
    section = evaluate(job, plots)
    assert section.metrics["mrr"].runs == 1
    assert not {"p_at_1_log_posterior", "mrr_log_posterior", "mrr_mean"} & set(section.metrics)


def test_bm25_ranks_by_shared_words_and_rare_ones_more(tiny_model, pairs, tmp_path, plots):
    content = rows(
        ["shares of the minister"], ["the the the law", "a bank", "Shares it lost", "the house", "the x"], right=(2,)
    )
    section = evaluate(make_job(tiny_model, pairs("pairs", content), tmp_path), plots)
    assert section.metrics["p_at_1_bm25"].value == 1


def test_bm25_without_a_shared_word_ranks_the_right_answer_last(tiny_model, pairs, tmp_path, plots):
    section = evaluate(make_job(tiny_model, pairs("pairs", rows(["why"])), tmp_path), plots)
    assert section.metrics["mrr_bm25"].value == pytest.approx(1 / 5)


def test_questions_without_or_with_several_right_answers_are_counted(tiny_model, pairs, tmp_path, plots):
    content = [*rows(QUESTIONS[:2], right=(0, 1)), *({**row, "group": "none"} for row in rows(QUESTIONS[2:], right=()))]
    section = evaluate(make_job(tiny_model, pairs("pairs", content), tmp_path), plots)
    assert section.metrics["mrr"].n == 2
    assert section.metrics["p_at_1_random"].value == pytest.approx(2 / 5)
    notes = "\n".join(section.notes)
    assert "1 questions without a right answer" in notes and "2 questions have several right answers" in notes


def test_answers_beyond_the_models_limit_are_cut_and_counted(tiny_model, pairs, tmp_path, plots):
    content = rows(["a bank", "the " * 30], ["the law " * 20, "shares"], right=(0,))
    section = evaluate(make_job(tiny_model, pairs("pairs", content), tmp_path), plots)
    assert any(note.startswith("3 of 4 pairs are longer") for note in section.notes)
    candidates = answering.read_candidates(Corpus.open(tmp_path / "pairs").split("test"))
    *pairs, _ = answering.encode(Corpus.open(tmp_path / "pairs").tokenizer, candidates, limit=20)
    for answered, unknown in zip(*pairs, strict=True):
        assert 3 < len(answered) == len(unknown) <= 20


def test_the_longest_answer_and_the_correlation_with_length_are_reported(tiny_model, pairs, tmp_path, plots):
    content = rows(answers=["the law", "a", "the company sold shares", "the new law", "a bank"], right=(2,))
    section = evaluate(make_job(tiny_model, pairs("pairs", content), tmp_path), plots)
    assert section.metrics["p_at_1_longest"].value == 1
    scores, found = model_scores(make_job(tiny_model, pairs("again", content), tmp_path / "again_job"))
    order, words = (scipy.stats.rankdata(each[:5]) for each in (scores["_mean"][:, 0], found.num_words))
    [first, *_] = answering.rank_correlations(scores["_mean"][:, 0], found.num_words, found.groups)
    assert first == pytest.approx(np.corrcoef(order, words)[0, 1])
    assert section.metrics["length_correlation"].n == len(QUESTIONS)
    assert section.metrics["length_correlation"].value > 0.5
    assert any(note.startswith("The distance mostly ranks answers by their length") for note in section.notes)


def test_answers_of_equal_length_are_those_of_the_cut_texts(tiny_model, pairs, tmp_path, plots):
    answers = ["the new law", "a bank", "her brother lost a small house"]
    cut = ["the new", "a bank", "her brother"]
    job = make_job(tiny_model, pairs("whole", rows(answers=answers, right=(0,))), tmp_path)
    section = evaluate(job, plots, equal_length=True)
    expected = evaluate(make_job(tiny_model, pairs("cut", rows(answers=cut, right=(0,))), tmp_path / "cut_job"), plots)
    for name in ("p_at_1", "mrr", "mrr_mean", "mrr_log_posterior", "mrr_bm25", "mrr_random"):
        assert section.metrics[name] == expected.metrics[name], name
    assert not {"length_correlation", "p_at_1_longest"} & set(section.metrics)
    assert any(note.startswith("Each question's answers are cut") for note in section.notes)


def test_questions_whose_answers_have_one_length_have_no_correlation():
    scores, words = np.array([3.0, 1, 2, 1, 2, 2, 2]), np.array([9, 7, 8, 4, 4, 1, 2])
    found = answering.rank_correlations(scores, words, np.array([0, 0, 0, 1, 1, 2, 2]))
    assert found.tolist() == pytest.approx([1.0])


def test_the_section_has_a_table_of_methods_and_a_plot(tiny_model, pairs, tmp_path, plots):
    section = evaluate(make_job(tiny_model, pairs("pairs", rows()), tmp_path), plots)
    [table] = section.tables
    assert [row[0] for row in table.rows] == list(answering.METHODS.values())
    assert [(plots / name).exists() for name in section.plots] == [True]


def test_a_corpus_without_questions_is_not_evaluated(tiny_model, tiny_corpus, tmp_path, plots):
    section = evaluate(make_job(tiny_model, tiny_corpus, tmp_path), plots)
    assert section.metrics == {} and section.notes[0].startswith("Not evaluated")


def test_the_pairs_may_come_from_another_corpus(tiny_model, tiny_corpus, pairs, tmp_path, plots):
    job = make_job(tiny_model, tiny_corpus, tmp_path)
    assert evaluate(job, plots, corpus=str(pairs("pairs", rows()))).metrics["mrr"].n == 3
    with pytest.raises(UserError, match="no column group, question, answer, label"):
        evaluate(job, plots, corpus=str(tiny_corpus))


def test_a_label_that_is_neither_0_nor_1_is_refused(tiny_model, pairs, tmp_path, plots):
    content = [{**row, "label": "yes"} for row in rows()]
    with pytest.raises(UserError, match="label 'yes'"):
        evaluate(make_job(tiny_model, pairs("pairs", content), tmp_path), plots)
