"""Metrics of codes on sets of sentences: against sentence-transformers' evaluators, and sets whose answer is known."""

import warnings

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from smim.errors import SmimError, UserError
from smim.evaluation.semantic_measures import hits, measure, measure_bm25, random_codes
from smim.evaluation.semantic_sets import Rows, SemanticSet

WORDS = ["cat", "dog", "tree", "river", "stone", "cloud", "bread", "king"]


def words_of(rows: int, *, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, 4)) for _ in range(rows)]


def bag(texts):
    """How often each of the words is in a text: codes whose similarities are known; of most, ties."""
    return np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)


def set_of(kind: str, *texts: list[str], values, groups=None, train=None, dev=None) -> SemanticSet:
    rows = Rows(texts, np.asarray(values, dtype=np.float64), groups)
    return SemanticSet("mine-dev", kind, rows, train, dev, files=())


def pairs(kind: str, *, seed: int = 0, rows: int = 60) -> SemanticSet:
    """Pairs of which some share their words; a score, or whether they do."""
    first, second = words_of(rows, seed=seed), words_of(rows, seed=seed + 1)
    values = np.random.default_rng(seed).random(rows) < 0.5
    second = [" ".join([*one.split()[:3], "king"]) if same else other
              for one, other, same in zip(first, second, values, strict=True)]  # fmt: skip
    return set_of(kind, first, second, values=values * (1 if kind == "paraphrases" else 2.5))


@pytest.fixture
def library(tiny_model, corpus):
    """The tiny model in sentence-transformers, and pairs of its corpus with scores of 0, 1 and 2."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from smim.sentence_transformer import SentenceEncoder

    model = sentence_transformers.SentenceTransformer(modules=[SentenceEncoder.load(str(tiny_model))], device="cpu")
    texts = corpus.split("train").texts()
    scores = np.random.default_rng(0).integers(0, 3, 39)
    return model, texts[:-1], texts[1:], scores


@pytest.mark.parametrize(("distance", "theirs"), [("cosine", "cosine"), ("l2", "euclidean"), ("inner_product", "dot")])
def test_correlations_are_those_of_sentence_transformers(library, distance, theirs):
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    model, *texts, scores = library
    evaluator = EmbeddingSimilarityEvaluator(*texts, scores.tolist(), similarity_fn_names=[theirs], write_csv=False)
    found = measure(model.encode, [set_of("similarity", *texts, values=scores)], distance=distance, bootstrap_samples=9)
    assert found["spearman:mine-dev"].value == pytest.approx(evaluator(model)[f"spearman_{theirs}"], abs=1e-6)


def test_paraphrases_are_told_as_sentence_transformers_tells_them(library):
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    model, *texts, scores = library
    same = (scores > 0).astype(int)
    evaluator = BinaryClassificationEvaluator(*texts, same.tolist(), similarity_fn_names=["cosine"], write_csv=False)
    expected = evaluator(model)
    found = measure(model.encode, [set_of("paraphrases", *texts, values=same)], bootstrap_samples=9)
    assert found["average_precision:mine-dev"].value == pytest.approx(expected["cosine_ap"], abs=1e-6)
    # Without dev and train, the threshold is chosen on what is evaluated, as the library's is.
    assert found["paraphrase_accuracy:mine-dev"].value == pytest.approx(expected["cosine_accuracy"], abs=1e-6)


@pytest.mark.parametrize("always", [0, 1])
def test_a_threshold_is_chosen_on_dev(always):
    test, dev = pairs("paraphrases"), pairs("paraphrases", seed=5).evaluated
    mine = SemanticSet("mine-test", "paraphrases", test.evaluated, None, Rows(dev.texts, dev.values * 0 + always), ())
    found = measure(bag, [mine], bootstrap_samples=10)
    told = (test.evaluated.values == always).mean()
    # Of what dev has always, test is told always, but where it is less alike than anything of dev's.
    assert found["paraphrase_accuracy:mine-test"].value == pytest.approx(told, abs=0.05)


def test_the_bootstrap_is_that_of_a_correlation():
    found = measure(bag, [pairs("similarity", rows=400)], bootstrap_samples=300)["spearman:mine-dev"]
    # Fisher's: about (1 - r^2) / sqrt(N), ties and all.
    assert found.standard_error == pytest.approx((1 - found.value**2) / 20, rel=0.3) and found.n == 400


def test_a_hit_is_nearer_than_all_others_and_ties_count_against_it():
    rows = Rows((["a", "b", "c", "d"], ["A", "B", "A", "D"]), np.array([1.0, 1, 0, 1]))
    similarity = {"a": [3, 1, 2], "b": [1, 3, 3], "d": [9, 9, 10]}
    found = hits(rows, lambda queries, candidates: np.array([similarity[text] for text in queries]))
    assert found.tolist() == [True, False, True]  # c has no paraphrase


def test_a_paraphrase_is_found_by_its_words_and_not_by_chance():
    first = [f"the {word} is here" for word in WORDS]
    mine = set_of("pairs", first, [f"here is the {word} !" for word in WORDS], values=np.ones(8))
    assert measure(bag, [mine])["hit_at_1:mine-dev"].value == 1
    assert measure(bag, [mine], distance="l2")["hit_at_1:mine-dev"].value == 1
    assert measure(TfidfVectorizer().fit_transform, [mine])["hit_at_1:mine-dev"].value == 1
    assert measure_bm25([mine])["hit_at_1:mine-dev"].value == 1
    assert measure(random_codes(64), [mine])["hit_at_1:mine-dev"].value < 0.6


def test_the_right_answer_is_ranked_within_its_question_and_ties_count_against_it():
    questions = ["cat dog"] * 2 + ["tree"] * 3
    answers = ["cat dog", "dog cat", "tree tree", "river", "stone"]
    right, groups = [1, 0, 1, 0, 0], np.array([0, 0, 1, 1, 1])
    mine = set_of("answers", questions, answers, values=right, groups=groups)
    assert measure(bag, [mine])["answer_mrr:mine-dev"].value == pytest.approx((1 / 2 + 1) / 2)
    # BM25 likes a word said twice.
    assert measure_bm25([mine])["answer_mrr:mine-dev"].value == pytest.approx((1 / 2 + 1) / 2)
    assert measure(bag, [mine], reconstruct=lambda texts: texts).keys() == {"answer_mrr:mine-dev"}


def classes(seed: int, rows: int = 60) -> Rows:
    texts = words_of(rows, seed=seed)
    return Rows((texts,), np.array(["cat" in text.split() for text in texts], dtype=np.float64))


@pytest.mark.parametrize("encode", [bag, TfidfVectorizer(vocabulary=WORDS).fit_transform])
def test_a_class_that_a_word_tells_is_told_by_probe_and_neighbours(encode):
    mine = SemanticSet("mine-test", "classes", classes(0), classes(2, 200), classes(4), files=())
    found = measure(encode, [mine])
    assert found["probe_accuracy:mine-test"].value == 1
    assert 0.8 < found["neighbour_accuracy:mine-test"].value <= 1
    chance = measure(random_codes(8), [mine])
    assert chance["probe_accuracy:mine-test"].value < 0.8 and found["probe_accuracy:mine-test"].n == 60


def test_train_is_cross_validated_where_it_is_evaluated():
    """Rows that repeat would be told right by what was fitted to them; a class drawn at random is not told by folds."""
    texts = words_of(200, seed=0)
    train = Rows((texts,), np.random.default_rng(1).integers(0, 2, 200).astype(np.float64))
    mine = SemanticSet("mine-dev", "classes", train, train, None, files=())
    found = measure(random_codes(300), [mine])
    assert abs(found["probe_accuracy:mine-dev"].value - 0.5) < 0.12
    assert abs(found["neighbour_accuracy:mine-dev"].value - 0.5) < 0.12


def test_a_probe_of_pairs_sees_their_difference_and_product():
    train, test = pairs("paraphrases", seed=3, rows=300).evaluated, pairs("paraphrases").evaluated
    mine = SemanticSet("mine-test", "paraphrases", test, train, None, files=())
    found = measure(bag, [mine], bootstrap_samples=10)
    # Neither text alone tells whether they share words.
    assert found["probe_accuracy:mine-test"].value > 0.9
    by_l2 = measure(bag, [mine], distance="l2", bootstrap_samples=10)
    assert "probe_accuracy:mine-test" not in by_l2 and "neighbour_accuracy:mine-test" in by_l2


def test_a_sentence_comes_back_by_its_words():
    mine = pairs("similarity")
    lost = mine.sentences[0]
    back = measure(bag, [mine], bootstrap_samples=10, reconstruct=lambda texts: [
        "cat" if text == lost else f" {text} " for text in texts
    ])["word_for_word:mine-dev"]  # fmt: skip
    assert (back.value, back.n) == (pytest.approx(1 - 1 / len(mine.sentences)), len(mine.sentences))


def test_random_codes_are_of_the_text_alone():
    one, other = random_codes(5)(["a", "b"]), random_codes(5)(["b", "a"])
    assert np.array_equal(one, other[::-1]) and not np.array_equal(one, random_codes(5, seed=1)(["a", "b"]))


def test_codes_that_are_none_are_refused():
    mine = pairs("similarity")
    with pytest.raises(SmimError, match="mine-dev: some codes are NaN or infinite"):
        measure(lambda texts: np.where(bag(texts) == 2, np.nan, 1), [mine])
    with pytest.raises(UserError, match=r"mine-dev: the codes have the shape \(1, 8\) for \d+ texts"):
        measure(lambda texts: bag(texts)[:1], [mine])
    with warnings.catch_warnings(), pytest.raises(SmimError, match="'spearman:mine-dev' came out as nan"):
        warnings.simplefilter("ignore")
        measure(lambda texts: np.ones((len(texts), 2)), [mine], bootstrap_samples=10)
