"""The examples of appendix E against the model's own methods, and what a model or corpus does not allow."""

from types import SimpleNamespace

import pytest
import torch

from smim.errors import UserError
from smim.evaluation import examples
from smim.evaluation.examples import ExamplesArgs
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, save_model
from smim.text.corpus import Corpus
from smim.text.tokenizer import Tokenizer
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.evaluation.conftest import make_job
from tests.models import sentence_args

ASKING = ["who sold the house ? a bank", "the house is new", "where is the bank ? here", "why ? why ? it is"]


@pytest.fixture
def job(tiny_model, tiny_corpus, tmp_path):
    return make_job(tiny_model, tiny_corpus, tmp_path)


@pytest.fixture
def asking(tmp_path):
    """A corpus with questions, and a job on it with a model whose decoder always, or never, says "?"."""
    tokenizer = WordTokenizer.train(ASKING, splitter="whitespace")
    write_corpus(tmp_path / "asking", {"test": [{"text": text} for text in ASKING]}, tokenizer, name="asking")

    def make(*, says: bool):
        torch.manual_seed(0)
        args = sentence_args(latent_dim=4, hidden_dim=8, embedding_dim=6, max_length=100)
        model = SentenceAutoencoder(args, vocabulary_size=tokenizer.vocabulary_size)
        model.to_vocabulary.bias.data[tokenizer.encode("?")] = 100.0 if says else -100.0
        save_model(tmp_path / "model", model, tokenizer, training={"objective": "amim"}, use={"answers": True})
        return make_job(tmp_path / "model", tmp_path / "asking", tmp_path)

    return make


def evaluate(job, plots, **args):
    return examples.evaluate(job, ExamplesArgs(**args), plots)


def table(section, title):
    [found] = [each for each in section.tables if each.title.startswith(title)]
    return found


def test_reconstructions_are_of_data_mean_draw_and_perturbed_draw(job, plots):
    rows = table(evaluate(job, plots, num=3), "Reconstruction").rows
    assert [name for name, _ in rows] == ["(D)", "(M)", "(R)", "(P)"] * 3
    data = [text for name, text in rows if name == "(D)"]
    assert len(set(data) & set(job.split.texts())) == 3
    texts = job.split.texts()
    posterior, places = job.model.posterior(data), [texts.index(text) for text in data]
    of_mean = job.model.decode(posterior.mean, max_length=job.max_length, allow_unknown=True)
    assert [text for name, text in rows if name == "(M)"] == of_mean and len(set(of_mean)) == 3
    expected = job.model.decode(job.draw(posterior, places, number=0), max_length=job.max_length, allow_unknown=True)
    assert [text for name, text in rows if name == "(R)"] == expected != of_mean


def test_given_sentences_are_decoded_and_are_the_ends_of_interpolations(job, plots):
    given = job.split.texts([4, 1, 3])
    section = evaluate(job, plots, num=1, sentences=given)
    rows = table(section, "Reconstruction").rows
    assert [text for name, text in rows if name == "(D)"] == given
    expected = job.model.decode(job.model.encode(given), max_length=job.max_length, allow_unknown=True)
    assert [text for name, text in rows if name == "(M)"] == expected
    ends = table(section, "Interpolation 1 of 1").rows
    assert (ends[0], ends[-1]) == (["(D)", given[0]], ["(D)", given[1]])
    assert "those of `eval.examples.sentences`" in section.notes[0]
    assert "eval.examples" not in evaluate(job, plots, num=1).notes[0]


@pytest.mark.parametrize(("sentence", "num"), [("the " * 21, 21), (" ", 0)])
def test_a_given_sentence_that_the_model_cannot_read_is_refused(job, plots, sentence, num):
    with pytest.raises(UserError, match=rf"eval.examples.sentences has .* with {num} tokens; the model reads 1 to 20"):
        evaluate(job, plots, sentences=["the house", sentence])


def test_examples_show_unk_where_the_model_says_it(unknowing_model, tmp_path, plots):
    tokenizer = Tokenizer.load(unknowing_model / "tokenizer")
    write_corpus(tmp_path / "known", {"test": [{"text": "a bank"}, {"text": "the law"}]}, tokenizer, name="known")
    section = evaluate(make_job(unknowing_model, tmp_path / "known", tmp_path), plots, num=2)
    for title in ("Reconstruction", "Interpolation", "Samples from N", "Samples from the aggregate"):
        assert any("<unk>" in row[-1] for row in table(section, title).rows), title


def test_the_perturbed_draw_goes_as_far_as_it_is_told(job, plots):
    by_name = {}
    for scale in (0, 1e4):
        rows = table(evaluate(job, plots, num=5, perturbation=scale), "Reconstruction").rows
        by_name[scale] = {name: [text for other, text in rows if other == name] for name in ("(M)", "(P)")}
    assert by_name[0]["(P)"] == by_name[0]["(M)"]
    assert by_name[1e4]["(P)"] != by_name[1e4]["(M)"]


def test_an_autoencoder_is_shown_by_its_code_alone(tiny_model, tiny_corpus, tmp_path, plots):
    autoencoder, tokenizer, config = load_model(tiny_model)
    save_model(tmp_path / "ae", autoencoder, tokenizer, training={**config["training"], "objective": "autoencoder"})
    section = evaluate(make_job(tmp_path / "ae", tiny_corpus, tmp_path), plots, num=2)
    assert [name for name, _ in table(section, "Reconstruction").rows] == ["(D)", "(AE)"] * 2
    assert not any(each.title.startswith("Samples") for each in section.tables)


def test_an_interpolation_goes_from_one_sentence_to_the_other(job, plots):
    section = evaluate(job, plots, num=4, interpolation_steps=3)
    assert [each.title[:15] for each in section.tables[1:3]] == ["Interpolation 1", "Interpolation 2"]
    rows = table(section, "Interpolation 1").rows
    assert [name for name, _ in rows] == ["(D)", "0.00", "0.50", "1.00", "(D)"]
    first, *between, second = [text for _, text in rows]
    codes = job.model.interpolation(first, second, steps=3)
    assert between == job.model.decode(codes, max_length=job.max_length, allow_unknown=True) and len(set(between)) == 3


def test_samples_are_from_a_gaussian_and_from_posteriors(job, plots):
    section = evaluate(job, plots, num=3, sample_deviation=20)
    gaussian = table(section, "Samples from N(0, 20² I)")
    expected = job.model.sample(3, standard_deviation=20, seed=0, allow_unknown=True)
    assert [text for [text] in gaussian.rows] == expected and len(set(expected)) == 3
    aggregate = table(section, "Samples from the aggregate posterior")
    assert len(aggregate.rows) == 3 and {text for text, _ in aggregate.rows} <= set(job.split.texts())


def test_the_seed_decides_the_examples(tiny_model, tiny_corpus, tmp_path, plots):
    one, same, other = (
        evaluate(make_job(tiny_model, tiny_corpus, tmp_path, seed=seed), plots, num=3).tables for seed in (0, 0, 1)
    )
    assert one == same
    assert all(first.rows != second.rows for first, second in zip(one, other, strict=True))


def test_long_sentences_are_not_shown(tiny_model, tiny_corpus, tmp_path, plots):
    texts = ["the bank " * 15, "the bank sold shares", "shares " * 21, "the law"]
    splits = {"test": [{"text": text.strip()} for text in texts]}
    write_corpus(tmp_path / "long", splits, Corpus.open(tiny_corpus).tokenizer, name="long")
    section = evaluate(make_job(tiny_model, tmp_path / "long", tmp_path), plots)
    assert {text for name, text in table(section, "Reconstruction").rows if name == "(D)"} == {texts[1], texts[3]}


def test_answers_are_those_of_the_model_for_three_lengths(asking, plots):
    job = asking(says=True)
    rows = table(evaluate(job, plots, questions=["who sold it"]), "Answers").rows
    lengths = {"short": 5, "medium": 10, "long": 15}
    expected = [[f"(A) {name}", job.model.answer("who sold it", num_words=num)] for name, num in lengths.items()]
    assert rows == [["(Q)", "who sold it"], *expected]


def test_an_answer_that_is_none_is_said_to_be(asking, plots):
    rows = table(evaluate(asking(says=False), plots, questions=["who sold it"]), "Answers").rows
    assert all(text.startswith("(no answer") for _, text in rows[1:])


def test_questions_are_the_beginnings_of_evaluated_sentences(asking, plots):
    section = evaluate(asking(says=True), plots)
    asked = [text for name, text in table(section, "Answers").rows if name == "(Q)"]
    assert asked == ["where is the bank", "who sold the house", "why"]


def test_questions_may_come_from_another_corpus(asking, tmp_path, plots, tiny_corpus):
    job = asking(says=True)
    splits = {"test": [{"text": f"{q} ? a", "question": q} for q in ("is it new", "is it new", "zzz", "here")]}
    write_corpus(tmp_path / "pairs", splits, job.model.tokenizer, name="pairs")
    section = evaluate(job, plots, question_corpus=str(tmp_path / "pairs"))
    assert [text for name, text in table(section, "Answers").rows if name == "(Q)"] == ["here", "is it new"]
    with pytest.raises(UserError, match="no column 'question'"):
        evaluate(job, plots, question_corpus=str(tmp_path / "asking"))


def test_a_vocabulary_without_a_question_mark_gives_no_answers(job, plots):
    section = evaluate(job, plots, questions=["the bank"])
    assert not any(each.title.startswith("Answers") for each in section.tables)
    assert any('has no "?"' in note for note in section.notes)


def test_a_model_that_was_not_trained_on_answers_is_asked_nothing(asking, plots):
    job = asking(says=True)
    job.model.config["use"]["answers"] = False
    section = evaluate(job, plots, questions=["who sold it"])
    assert not any(each.title.startswith("Answers") for each in section.tables)
    assert any("not trained on questions with answers" in note for note in section.notes)


def test_the_models_own_scale_and_spread_are_taken_where_none_is_given(job, plots):
    section, given = evaluate(job, plots, num=3), evaluate(job, plots, num=3, perturbation=10, sample_deviation=0.1)
    assert section.tables == given.tables and section.notes == given.notes
    other = evaluate(job, plots, num=3, perturbation=0, sample_deviation=20)
    assert table(other, "Reconstruction").rows != table(section, "Reconstruction").rows


def test_a_given_question_of_unknown_words_is_left_out_and_named(asking, plots):
    section = evaluate(asking(says=True), plots, questions=["zzz yyy", "why"])
    assert [text for name, text in table(section, "Answers").rows if name == "(Q)"] == ["why"]
    assert any("zzz yyy" in note for note in section.notes)


def test_other_processes_neither_decode_nor_wait(tiny_model, tiny_corpus, tmp_path, plots):
    # No method of an accelerator is there to be called.
    other = SimpleNamespace(is_main_process=False, process_index=1, num_processes=2)
    assert evaluate(make_job(tiny_model, tiny_corpus, tmp_path, accelerator=other), plots).tables == []
    main = SimpleNamespace(is_main_process=True, process_index=0, num_processes=2)
    assert evaluate(make_job(tiny_model, tiny_corpus, tmp_path, accelerator=main), plots).tables


def test_all_wrong_values_are_told_together():
    with pytest.raises(
        UserError, match=r"eval.examples.num is 0, but it must be at least 1; .*interpolation_steps is 1"
    ):
        ExamplesArgs(num=0, interpolation_steps=1)
