"""The corpora of the thesis, from small files in their published formats, and from the real ones."""

import json
import pickle
from pathlib import Path

import pytest

from data_prep.corpora import yahoocqa
from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.text.corpus import Corpus
from tests.preparation.builds import DATA, build, needs_data

SPLITS = ("train", "valid", "test")
# NLTK's splitter takes minutes for the larger corpora; what is counted here does not depend on it.
FAST = ["corpus.tokenizer.splitter=whitespace", "prep.workers=1"]


def sentences(corpus: Corpus) -> list[int]:
    return [corpus.card["splits"][split]["sentences"] for split in SPLITS]


def review(number: int) -> str:
    """A text of between 20 and 200 words."""
    return f"review {number} of _UNK " + "word " * (18 + number % 50) + "."


def labelled(number: int) -> dict[str, str]:
    return {"label": str(number % 5), "text": review(number)}


WRITERS = {
    "label TAB text": lambda row: f"{row['label']}\t{row['text']}",
    "JSON lines": json.dumps,
    "JSON lines with stars": lambda row: json.dumps({"stars": int(row["label"]), "text": row["text"]}),
    "text": lambda row: row["text"],
}


@pytest.mark.parametrize("name", ["yelp15", "yahoo"])
@pytest.mark.parametrize("format", WRITERS)
def test_yelp_and_yahoo_read_each_published_format(tmp_path, name, format):
    for split, count in (("train", 30), ("valid", 5), ("test", 4)):
        lines = [WRITERS[format](labelled(i)) for i in range(count)]
        (tmp_path / f"{name}.{split}.txt").write_text("\n".join(lines))
    corpus = build(tmp_path / "out", f"corpus={name}", f"corpus.path={tmp_path}", *FAST)
    assert sentences(corpus) == [30, 5, 4]
    train = corpus.split("train")
    assert train.texts([3]) == [review(3).replace("_UNK", "<unk>")]
    assert train.label_columns == ([] if format == "text" else ["label"])
    if format != "text":
        assert train.labels("label")[:6] == ["0", "1", "2", "3", "4", "0"]
    assert "a stand-in: train has 30 sentences, the original has 100,000" in corpus.card["notes"]


def test_reviews_in_one_file_are_drawn_from_in_the_proportion_of_the_thesis(tmp_path):
    (tmp_path / "reviews.json").write_text("\n".join(json.dumps(labelled(i)) for i in range(1200)))
    corpus = build(tmp_path / "out", "corpus=yelp15", f"corpus.path={tmp_path / 'reviews.json'}", *FAST)
    assert sentences(corpus) == [1000, 100, 100]
    texts = [text for split in SPLITS for text in corpus.split(split).texts()]
    assert len(set(texts)) == 1200
    assert [corpus.card["splits"][split]["also_in_train"] for split in SPLITS[1:]] == [0, 0]


def test_of_equal_texts_on_the_border_of_sizes_the_card_tells_those_that_are_in_train_too(tmp_path):
    (tmp_path / "reviews.json").write_text("\n".join(json.dumps(labelled(i // 7)) for i in range(1200)))
    corpus = build(tmp_path / "out", "corpus=yelp15", f"corpus.path={tmp_path / 'reviews.json'}", *FAST)
    assert sentences(corpus) == [1000, 100, 100]
    train = set(corpus.split("train").texts())
    found = {split: sum(text in train for text in corpus.split(split).texts()) for split in SPLITS[1:]}
    assert found == {split: corpus.card["splits"][split]["also_in_train"] for split in found}
    assert sum(found.values()) > 0


def test_texts_under_20_and_over_200_words_are_left_out_and_counted(tmp_path):
    lines = ["too short", *[review(i) for i in range(100)], "word " * 201]
    (tmp_path / "reviews.txt").write_text("\n".join(lines))
    corpus = build(tmp_path / "out", "corpus=yelp15", f"corpus.path={tmp_path}", *FAST)
    assert corpus.card["left_out"] == {"too_long_dropped": 1, "too_short": 1}


def test_the_minimum_count_is_the_one_that_comes_nearest_to_the_thesis(tmp_path):
    # Words are seen 1, 2, ... 40 times.
    text = " ".join(f"w{i}" for i in range(1, 41) for _ in range(i))
    for split, content in (("train", text), ("valid", "w1"), ("test", "w2")):
        (tmp_path / f"{split}.txt").write_text(content)
    paths = [f"corpus.splits.{split}={tmp_path / split}.txt" for split in SPLITS]
    corpus = build(tmp_path / "out", "corpus=text", *paths, "corpus.tokenizer.near=24", *FAST)
    assert corpus.card["vocabulary_size"] == 4 + 20 and corpus.card["tokenizer"]["min_count"] == 21


def test_wikitext_drops_blank_lines_and_headings(tmp_path):
    page = " \n = Title = \n \n First paragraph of {} . \n = = Part = = \n Second = {} . \n"
    (tmp_path / "wiki.train.tokens").write_text("".join(page.format(i, i) for i in range(105)))
    (tmp_path / "wiki.test.tokens").write_text(page.format("x", "y"))
    corpus = build(tmp_path / "out", "corpus=wt103", f"corpus.path={tmp_path}", *FAST)
    assert sentences(corpus) == [200, 10, 2]
    assert corpus.split("test").texts() == ["First paragraph of x .", "Second = y ."]
    assert corpus.card["left_out"]["heading"] == 2 * 106


PAIRS = {
    split: {
        f"question {i} of {split}": [[f"wrong {i}", 0], [f"answer {i}", 1], [f"other {i}", 0]] for i in range(count)
    }
    for split, count in (("train", 30), ("dev", 4), ("test", 5))
}


def test_wikitext_in_ordinary_writing_is_split_into_sentences(tmp_path):
    paragraph = (
        " The game 's theme cost 2 @,@ 000 @.@ 5 yen ( about half ) . A well @-@ known <unk> , it isn 't long . "
        "It also has a second sentence of a few words .\n"
    )
    for split in SPLITS:
        (tmp_path / f"wiki.{split}.tokens").write_text(f" \n = Game of {split} = \n \n{paragraph}")
    corpus = build(
        tmp_path / "out",
        *("corpus=wikitext", f"corpus.path={tmp_path}", "corpus.tokenizer.kind=word", "prep.workers=1"),
        *("corpus.tokenizer.splitter=whitespace", "corpus.tokenizer.min_count=1", "corpus.deduplicate=false"),
    )
    expected = [
        "The game's theme cost 2,000.5 yen (about half).",
        "A well-known <unk>, it isn't long.",
        "It also has a second sentence of a few words.",
    ]
    assert [corpus.split(split).texts() for split in SPLITS] == [expected] * 3


def test_wikitext_without_one_of_its_files_is_refused(tmp_path):
    (tmp_path / "wiki.train.tokens").write_text("A sentence .\n")
    with pytest.raises(UserError, match="no name has valid"):
        build(tmp_path / "out", "corpus=wikitext", f"corpus.path={tmp_path}")


def write_tables(folder: Path, splits: list[str]) -> None:
    for split in splits:
        rows = [
            f"{group}\t{label}\t{question}\t{answer}"
            for group, (question, answers) in enumerate(PAIRS[split].items())
            for answer, label in answers
        ]
        (folder / f"yahoocqa.{split}.tsv").write_text("\n".join(rows))


@pytest.mark.parametrize("protocol", range(6))
def test_yahoocqa_reads_the_pickle_as_the_table(tmp_path, protocol):
    (tmp_path / "tables").mkdir()
    write_tables(tmp_path / "tables", ["train", "dev", "test"])
    (tmp_path / "yahoo.pkl").write_bytes(pickle.dumps(PAIRS, protocol=protocol))
    table = build(tmp_path / "a", "corpus=yahoocqa", f"corpus.path={tmp_path / 'tables'}", *FAST)
    pickled = build(tmp_path / "b", "corpus=yahoocqa", f"corpus.path={tmp_path / 'yahoo.pkl'}", *FAST)
    assert sentences(table) == sentences(pickled) == [90, 12, 15]
    for split in SPLITS:
        assert table.split(split).table.equals(pickled.split(split).table)
    test = table.split("test")
    assert test.texts([1]) == ["question 0 of test ? answer 0"]
    assert [test.labels(name)[1] for name in ("group", "label", "question", "answer")] == [
        *("0", "1", "question 0 of test", "answer 0"),
    ]


def test_candidates_of_a_question_stay_together_where_valid_is_drawn_from_train(tmp_path):
    write_tables(tmp_path, ["train", "test"])
    corpus = build(tmp_path / "out", "corpus=yahoocqa", f"corpus.path={tmp_path}", *FAST)
    train, valid = (set(corpus.split(split).labels("group")) for split in ("train", "valid"))
    assert not train & valid and len(train | valid) == 30
    assert sentences(corpus)[0] == 3 * len(train)


def test_the_recipe_of_yahoocqa_is_in_the_order_of_its_files(tmp_path):
    """In that of a set, another process would take it for another recipe, and not go on from what was killed."""
    (tmp_path / "tables").mkdir()
    write_tables(tmp_path / "tables", ["train", "dev", "test"])
    (tmp_path / "yahoo.pkl").write_bytes(pickle.dumps(PAIRS))
    for name, splits in (("tables", ["valid", "test", "train"]), ("yahoo.pkl", ["train", "valid", "test"])):
        recipe = yahoocqa.recipe(
            CorpusArgs(builder="yahoocqa", name="yahoocqa", dir="data/yahoocqa", path=str(tmp_path / name))
        )
        assert list(recipe.draws) == list(recipe.cleaning) == splits


class _Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"train": _Trap()}), "no code in it was run"),
        (pickle.dumps([1, 2]), "holds a list, but must hold a dictionary"),
        (pickle.dumps({"train": {"q": 3}, "dev": {}, "test": {}}), "'train' is not a dictionary of questions"),
        (pickle.dumps(PAIRS)[:-10], "is not YahooCQA's pickle"),
        (b"", "is not YahooCQA's pickle"),
        (b"plain text", "is not YahooCQA's pickle"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(tmp_path, monkeypatch, content, message):
    (tmp_path / "yahoo.pkl").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", "corpus=yahoocqa", f"corpus.path={tmp_path / 'yahoo.pkl'}", *FAST)
    assert not (tmp_path / "trapped").exists() and not (tmp_path / "out").exists()


@needs_data
def test_penn_treebank_is_that_of_the_thesis(tmp_path):
    """Table 7.1: 42068 / 3370 / 3761 sentences, a vocabulary of 9877, 21 ± 10 words."""
    corpus = build(tmp_path / "ptb", "corpus=ptb", f"corpus.path={DATA / 'ptb'}")
    splits = corpus.card["splits"]
    assert sentences(corpus) == [42068, 3370, 3761] and corpus.card["notes"] == []
    assert corpus.card["vocabulary_size"] == 9877
    assert [round(splits["train"][name], 1) for name in ("length_mean", "length_std")] == [21.9, 10.6]
    assert [round(splits["test"][name], 1) for name in ("length_mean", "length_std")] == [21.7, 10.7]
    assert len(corpus.split("test")) == 3761


@needs_data
def test_wikitext_103_has_the_test_set_of_the_thesis(tmp_path):
    """Table 7.1: 2185 paragraphs; here, train and valid are drawn from the head of the original train file."""
    corpus = build(tmp_path / "wt103", "corpus=wt103", f"corpus.path={DATA / 'wikitext103'}", *FAST)
    train, valid, test = sentences(corpus)
    assert test == 2185 and train + valid == 4735 and train // valid == 20
    assert corpus.card["notes"] == [
        "a stand-in: train has 4,510 sentences, the original has 200,000",
        "a stand-in: valid has 225 sentences, the original has 10,000",
    ]


@needs_data
def test_yahoo_draws_train_from_valid_where_it_is_missing_and_says_so(tmp_path):
    corpus = build(tmp_path / "yahoo", "corpus=yahoo", f"corpus.path={DATA / 'yahoo'}", *FAST)
    assert sentences(corpus) == [9000, 1000, 10000]
    assert corpus.card["notes"][0] == "there is no file for train: its texts are drawn from the file for valid"


@needs_data
def test_yelp_stand_in_keeps_its_splits(tmp_path):
    corpus = build(tmp_path / "yelp15", "corpus=yelp15", f"corpus.path={DATA / 'yelp10k'}", *FAST)
    left_out = corpus.card["left_out"]
    assert sum(sentences(corpus)) + left_out["too_short"] + left_out["too_long_dropped"] == 7998 + 1000 + 1000


@needs_data
def test_everything_is_the_union_with_one_vocabulary(tmp_path):
    folders = {"ptb": "ptb", "yahoo": "yahoo", "yelp15": "yelp10k", "wt103": "wikitext103"}
    paths = [f"corpus.parts.{name}.path={DATA / folder}" for name, folder in folders.items()]
    whole = build(tmp_path / "everything", "corpus=everything", *paths, *FAST)
    parts = {
        name: build(tmp_path / name, f"corpus={name}", f"corpus.path={DATA / folder}", *FAST)
        for name, folder in folders.items()
    }
    assert sentences(whole) == [sum(column) for column in zip(*map(sentences, parts.values()), strict=True)]
    for split in SPLITS:
        sources = whole.split(split).labels("source")
        assert {name: sources.count(name) for name in parts} == {
            name: corpus.card["splits"][split]["sentences"] for name, corpus in parts.items()
        }
    first = whole.split("test").labels("source").index("wt103")
    assert whole.split("test").texts([first]) == parts["wt103"].split("test").texts([0])


@needs_data
def test_the_yahoocqa_subset_has_five_candidates_a_question(tmp_path):
    corpus = build(tmp_path / "out", "corpus=yahoocqa", f"corpus.path={DATA / 'qa_yahoocqa_subset'}", *FAST)
    train, valid, test = sentences(corpus)
    assert test == 800 and train + valid == 8000 and valid % 5 == 0
    assert corpus.split("test").labels("label").count("1") == 160
