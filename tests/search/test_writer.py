"""Changes of an index, against a dictionary that is changed in the same way."""

import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, open_index
from smim.search import factory as factories
from smim.search import ids as ids_module
from smim.search import writer as writer_module
from smim.search.query import Sentence
from smim.text.corpus import Corpus

WORDS = [["the company", "a bank", "her brother"], ["sold", "lost", "never liked"], ["shares", "a small house"]]


def a_text(chance: random.Random) -> str:
    return " ".join(chance.choice(words) for words in WORDS)


def contents(index: Index) -> dict[int, tuple[str, str | None]]:
    """What can be found, by id."""
    found = {}
    for segment in index.snapshot.segments:
        for position in segment.live_positions():
            row = segment.row(int(position))
            found[int(segment.ids[position])] = (row["text"], row["topic"])
    return found


def nearest_by_hand(index: Index, query: str, k: int, ids: list[int]) -> list[int]:
    codes = index.model.encode([contents(index)[id][0] for id in ids]).astype(np.float64)
    distances = np.linalg.norm(codes - index.model.encode([query]), axis=1)
    return [ids[i] for i in np.lexsort((ids, distances.round(6)))[:k]]


def test_added_sentences_are_found_by_a_reader_that_was_there_before(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        assert writer.add(["her brother never liked the bank", "a bank lost"], labels={"topic": ["new", None]}) == [
            40,
            41,
        ]
    assert len(index) == 42
    [[hit]] = index.search(["her brother never liked the bank"], k=1)
    assert (hit.id, hit.text, hit.labels) == (40, "her brother never liked the bank", {"topic": "new"})
    assert hit.distance == pytest.approx(0, abs=1e-5)
    assert index.get([41]) == [Sentence(41, "a bank lost", {"topic": None})]
    assert open_index(index.directory).search(["a bank lost"], k=3) == index.search(["a bank lost"], k=3)


def test_deleted_sentences_are_not_found(index: Index) -> None:
    [[nearest]] = index.search(["a bank sold shares"], k=1)
    with IndexWriter(index.directory) as writer:
        assert writer.delete([nearest.id, 12345]) == 1
        assert writer.delete([nearest.id]) == 0
    assert len(index) == 39
    assert nearest.id not in [hit.id for hit in index.search(["a bank sold shares"], k=39)[0]]
    with pytest.raises(UserError, match=f"holds no sentence with id {nearest.id}"):
        index.get([nearest.id])


def test_delete_by_a_filter(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        deleted = writer.delete(where={"topic": "money"})
    assert deleted > 0
    assert {topic for _, topic in contents(index).values()} == {"home", "politics"}
    assert len(index) == 40 - deleted


def test_upsert_takes_the_place_of_the_ids(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        assert writer.upsert(["a bank lost shares", "her brother lost"], ids=[50, 3], labels={"topic": ["x", "y"]}) == [
            50,
            3,
        ]
        assert writer.add(["a bank"]) == [51]
    assert len(index) == 42
    assert index.get([3, 50]) == [
        Sentence(3, "her brother lost", {"topic": "y"}),
        Sentence(50, "a bank lost shares", {"topic": "x"}),
    ]


def test_ids_go_on_behind_the_largest_also_after_a_lower_one_is_replaced(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        writer.upsert(["a bank lost shares"], ids=[3])
        assert writer.add(["a bank"]) == [40]
        writer.delete([40])
        assert writer.add(["a bank"]) == [41]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_any_changes_leave_what_they_should(
    seed: int, metric: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, metric=metric)
    expected = contents(index)
    for _ in range(40):
        with IndexWriter(index.directory, model=model) as writer:
            change = chance.choice(["add", "upsert", "upsert", "delete", "delete", "compact"])
            texts = [a_text(chance) for _ in range(chance.randrange(1, 6))]
            topics = [chance.choice(["money", "home", None]) for _ in texts]
            if change == "add":
                ids = writer.add(texts, labels={"topic": topics})
                assert not set(ids) & set(expected)
                expected |= dict(zip(ids, zip(texts, topics, strict=True), strict=True))
            elif change == "upsert":
                ids = chance.sample(range(80), len(texts))
                writer.upsert(texts, ids=ids, labels={"topic": topics})
                expected |= dict(zip(ids, zip(texts, topics, strict=True), strict=True))
            elif change == "delete":
                ids = chance.sample(range(80), chance.randrange(1, 15))
                assert writer.delete(ids) == len(set(ids) & set(expected))
                expected = {id: row for id, row in expected.items() if id not in ids}
            else:
                writer.compact()
                assert len(index.manifest.segments) == min(1, len(expected))
        assert contents(index) == expected
        assert len(index) == len(expected)
        assert len(index.manifest.segments) <= writer_module._MOST_SEGMENTS + 1
    codes = index.codes(sorted(expected))
    reference = model.encode([expected[id][0] for id in sorted(expected)])
    if metric == "cosine":
        reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    assert codes == pytest.approx(reference, abs=1e-5)
    named = {info.name for info in index.manifest.segments} | {info.deleted for info in index.manifest.segments}
    assert {path.name for path in index.directory.iterdir()} == (named - {None}) | {"manifest.json", "writer.lock"}


def test_segments_answer_as_one_does(index: Index) -> None:
    chance = random.Random(0)
    with IndexWriter(index.directory) as writer:
        for _ in range(5):
            writer.add([a_text(chance) for _ in range(7)])
        writer.delete(range(0, 40, 3))
        assert len(index.manifest.segments) == 6
        queries = [a_text(chance) for _ in range(30)]
        apart = [[(hit.id, hit.distance) for hit in hits] for hits in index.search(queries, k=20)]
        writer.compact()
    assert len(index.manifest.segments) == 1
    assert [[(hit.id, hit.distance) for hit in hits] for hits in index.search(queries, k=20)] == apart


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF2,SQ8", "PCA4,IVF2,Flat"])
def test_filter_gives_what_brute_force_over_the_rows_that_pass_gives(
    factory: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, factory=factory)
    with IndexWriter(index.directory) as writer:
        writer.delete([1, 5, 8])
        writer.add(["a bank sold a bank"], labels={"topic": ["home"]})
    query = "her brother sold a house"
    for where, k in [
        ({"topic": "home"}, 5),
        ({"topic": ["money", "politics"]}, 20),
        ({"text": {"$contains": "bank"}}, 3),
    ]:
        [hits] = index.search([query], k=k, where=where)
        passing = [
            id
            for id, (text, topic) in sorted(contents(index).items())
            if (topic in where["topic"] if "topic" in where else "bank" in text)
        ]
        assert [hit.id for hit in hits] == nearest_by_hand(index, query, k, passing)
    assert index.search(["a bank"], k=1, where={"topic": "sports"}) == [[]]


@pytest.mark.parametrize(
    ("factory", "metric"),
    [
        *(("PCA2,Flat", "l2"), ("PCA2,IVF2,Flat", "l2"), ("PCA2,HNSW16", "l2"), ("IVF2,RQ2x4", "l2")),
        *(("ITQ4,Flat", "l2"), ("PCA2,Flat", "inner_product"), ("PCA2,IVF2,Flat", "cosine")),
    ],
)
def test_added_sentences_are_ranked_among_those_of_any_kind_of_index(
    factory: str, metric: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model_dir": tiny_model, "metric": metric}
    index, exact = (build_index(model, corpus, tmp_path / kind, factory=kind, **options) for kind in (factory, "Flat"))
    for each in (index, exact):
        with IndexWriter(each.directory, model=model) as writer:
            writer.add(corpus.split("test").texts())
    queries = corpus.split("valid").texts()
    for ours, theirs in zip(index.search(queries, k=50), exact.search(queries, k=50), strict=True):
        assert [hit.id for hit in ours] == [hit.id for hit in theirs]
        assert [hit.distance for hit in ours] == pytest.approx([hit.distance for hit in theirs], abs=1e-5)


def test_offset_and_maximum_distance(index: Index) -> None:
    [all_hits] = index.search(["a bank sold shares"], k=10)
    assert index.search(["a bank sold shares"], k=4, offset=3) == [all_hits[3:7]]
    farthest = all_hits[5].distance
    assert index.search(["a bank sold shares"], k=10, max_distance=farthest) == [all_hits[:6]]
    assert index.search(["a bank sold shares"], k=5, offset=100) == [[]]


@pytest.mark.parametrize("distance", [float("nan"), "near"])
def test_maximum_distance_that_is_no_number_is_refused(index: Index, distance: Any) -> None:
    with pytest.raises(UserError, match=r"max_distance is .*must be a number"):
        index.search(["a bank sold shares"], k=1, max_distance=distance)


def test_more_like_a_sentence_leaves_it_out(index: Index) -> None:
    [text] = [row.text for row in index.get([7])]
    [hits] = index.more_like([7], k=5)
    assert [hit.id for hit in hits] == [hit.id for hit in index.search([text], k=6)[0] if hit.id != 7]
    assert index.more_like([7], k=2, offset=2) == [hits[2:4]]


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([7], {"k": 0}, "k is 0 and offset 0; k must be at least 1"),
        ([7], {"k": "3"}, "k is '3', but it must be a whole number"),
        ([7], {"offset": 0.5}, "offset is 0.5, but it must be a whole number"),
        ([40], {}, "holds no sentence with id 40"),
        (7, {}, "ids must be a list of whole numbers"),
        (["7"], {}, "ids must be a list of whole numbers"),
    ],
)
def test_more_like_what_cannot_be_is_refused(index: Index, ids: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        index.more_like(ids, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.add(["a bank"], ids=[3]), "holds a sentence with id 3 already; upsert replaces it"),
        (lambda w: w.add(["a bank", "shares"], ids=[50]), "1 ids were given for 2 sentences"),
        (lambda w: w.add(["a bank", "shares"], ids=[50, 50]), "the id 50 is given twice"),
        (lambda w: w.add(["a bank"], ids=[-1]), "ids must be a list of whole numbers from 0 to 2"),
        (lambda w: w.add(["a bank"], ids=["x"]), "ids must be a list of whole numbers"),
        (lambda w: w.add(["a bank"], ids=[2**63]), "ids must be a list of whole numbers"),
        (lambda w: w.add(["a bank"], ids=[2**70]), "ids must be a list of whole numbers"),
        (lambda w: w.add(None), "the sentences must be in a list of strings, not None"),
        (lambda w: w.add(["a bank", 3]), "the sentences must be in a list of strings, not"),
        (lambda w: w.add(["a bank"], labels={"topics": ["x"]}), "has no column 'topics'; did you mean 'topic'"),
        (lambda w: w.add(["a bank"], labels={"topic": []}), "'topic' must have one value for each of 1 sentences"),
        (lambda w: w.add(["a bank"], labels={"topic": [5]}), "'topic' do not fit the index's"),
        (lambda w: w.add(["a bank"], labels={"topic": 5}), "'topic' must have one value for each of 1 sentences"),
        (lambda w: w.add(["a bank"], labels={"topic": ["\ud800"]}), "'topic' do not fit the index's"),
        (
            lambda w: w.add(["a bank"], labels=["money"]),
            "labels must be a dictionary with a list of values per column, not",
        ),
        (lambda w: w.add(["a bank \ud800"]), "half of a surrogate pair"),
        (lambda w: w.set_search({"nprobes": 3}), "no search setting 'nprobes'; did you mean 'nprobe'"),
        (lambda w: w.set_search({"nprobe": 0}), "nprobe is 0, but it must be at least 1"),
        (lambda w: w.add(["a bank", ""]), "the text '' is empty"),
        (lambda w: w.add(["qwxzy"]), "has no word of"),
        (lambda w: w.delete(), "give either the ids"),
        (lambda w: w.delete(where={"topics": "x"}), "no column 'topics'"),
    ],
)
def test_change_that_cannot_be_is_refused_and_nothing_is_lost(index: Index, change, message) -> None:
    before = (index.directory / "manifest.json").read_bytes()
    with IndexWriter(index.directory) as writer, pytest.raises(UserError, match=message):
        change(writer)
    assert (index.directory / "manifest.json").read_bytes() == before
    assert {path.name for path in index.directory.iterdir()} == {"manifest.json", "00000001", "writer.lock"}


def test_a_writer_goes_on_from_what_another_one_changed_before_it_began(index: Index) -> None:
    early = IndexWriter(index.directory)
    with IndexWriter(index.directory) as other:
        assert other.add(["a bank lost"]) == [40]
        other.delete([3])
    with early as writer:
        assert writer.add(["a bank sold"]) == [41]
    assert len(index) == 41 and [row.text for row in index.get([40, 41])] == ["a bank lost", "a bank sold"]


def test_a_change_removes_no_file_that_is_not_the_indexs_own(index: Index) -> None:
    own = ["notes.txt", "00000001.bak", "0000001", ".hidden"]
    for name in own:
        (index.directory / name).write_text("years of work")
    (index.directory / "00000099").mkdir()  # a killed writer's
    with IndexWriter(index.directory) as writer:
        writer.delete([3])
        writer.compact()
    assert all((index.directory / name).read_text() == "years of work" for name in own)
    assert not (index.directory / "00000099").exists() and not (index.directory / "00000001").exists()


def test_second_writer_is_refused(index: Index) -> None:
    with IndexWriter(index.directory), pytest.raises(UserError, match="is being changed by another process"):
        IndexWriter(index.directory).__enter__()
    with IndexWriter(index.directory) as writer:
        writer.delete([0])


def test_a_build_is_refused_while_a_writer_is_at_work(
    index: Index, model: SentenceModel, corpus: Corpus, tiny_model: Path
) -> None:
    with IndexWriter(index.directory, model=model) as writer:
        with pytest.raises(UserError, match="is being changed by another process"):
            build_index(model, corpus, index.directory, model_dir=tiny_model)
        writer.add(["a bank lost"])
    assert len(open_index(index.directory, model=model)) == 41
    build_index(model, corpus, index.directory, model_dir=tiny_model)
    assert len(index) == 40


def test_writers_and_other_builds_are_refused_while_a_build_replaces_the_index(
    index: Index, model: SentenceModel, corpus: Corpus, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, times = model.posterior_of_ids, []

    def encode_meanwhile(sentences: Any) -> Any:
        times.append(len(sentences))
        with pytest.raises(UserError, match="is being changed by another process"):
            IndexWriter(index.directory).__enter__()
        with pytest.raises(UserError, match="is being changed by another process"):
            build_index(model, corpus, index.directory, model_dir=tiny_model)
        return encode(sentences)

    monkeypatch.setattr(model, "posterior_of_ids", encode_meanwhile)
    build_index(model, corpus, index.directory, model_dir=tiny_model, split="test")
    assert times == [10]
    assert len(index) == 10
    with IndexWriter(index.directory) as writer:
        assert writer.delete([0]) == 1


def test_writer_whose_index_was_replaced_changes_nothing(
    index: Index, model: SentenceModel, corpus: Corpus, tiny_model: Path
) -> None:
    with IndexWriter(index.directory, model=model) as writer:
        shutil.rmtree(index.directory)
        for change in (lambda: writer.delete([0]), lambda: writer.add(["a bank"])):
            with pytest.raises(UserError, match="was replaced by another process"):
                change()
        build_index(model, corpus, index.directory, model_dir=tiny_model, split="test")
        before = (index.directory / "manifest.json").read_bytes()
        for change in (lambda: writer.delete([0]), lambda: writer.add(["a bank"]), lambda: writer.set_search({})):
            with pytest.raises(UserError, match="was replaced by another process"):
                change()
    assert (index.directory / "manifest.json").read_bytes() == before
    assert {path.name for path in index.directory.iterdir()} == {"manifest.json", "00000001", "writer.lock"}


def test_changes_are_refused_where_the_lock_is_not_held(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        pass
    for change in (lambda: writer.add(["a bank"]), lambda: writer.delete([0]), lambda: writer.set_search({})):
        with pytest.raises(UserError, match="inside of `with IndexWriter"):
            change()


def test_ids_go_on_behind_the_largest(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        assert writer.add(["a bank"], ids=[2**53 - 3]) == [2**53 - 3]
        assert writer.add(["a bank"]) == [2**53 - 2]
        with pytest.raises(UserError, match="give each sentence an unused id"):
            writer.add(["a bank", "shares"])
        assert writer.add(["a bank"]) == [2**53 - 1]
        with pytest.raises(UserError, match="give each sentence an unused id"):
            writer.add(["a bank"])
        assert writer.add(["a bank"], ids=[41]) == [41]
    assert [row.id for row in index.get([2**53 - 1, 41])] == [2**53 - 1, 41]


def test_an_index_with_ids_beyond_the_largest_is_searched_and_its_sentences_are_deleted_by_a_filter(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older, IndexWriter(index.directory) as writer:
        older.setattr(ids_module, "LARGEST_ID", 2**62)
        writer.add(["a bank lost"], ids=[2**62], labels={"topic": ["old"]})
    [[hit]] = open_index(index.directory).search(["a bank lost"], k=1, where={"topic": "old"})
    assert (hit.id, hit.text) == (2**62, "a bank lost")
    with IndexWriter(index.directory) as writer:
        for use in (index.get, index.more_like, index.codes, writer.delete):
            with pytest.raises(UserError, match="can be found by searches and deleted by a filter"):
                use([2**62])
        with pytest.raises(UserError, match="give each sentence an unused id"):
            writer.add(["a bank"])
        assert writer.delete(where={"topic": "old"}) == 1


def test_index_of_which_everything_was_deleted(index: Index) -> None:
    with IndexWriter(index.directory) as writer:
        writer.delete(range(40))
        assert len(index) == 0
        assert index.search(["a bank"], k=1) == [[]]
        with pytest.raises(UserError, match="no column 'topik'"):
            index.count({"topik": "money"})
        writer.compact()
        assert len(index) == 0
    with IndexWriter(index.directory) as writer:
        assert writer.add(["a bank"]) == [40]
        assert writer.add(["a bank lost"], labels={"topic": ["money"]}) == [41]
        with pytest.raises(UserError, match="'topic' do not fit the index's"):
            writer.add(["a bank"], labels={"topic": [5]})
    assert contents(index) == {40: ("a bank", None), 41: ("a bank lost", "money")}
    [[hit]] = index.search(["a bank"], k=1, where={"topic": "money"})
    assert (hit.id, hit.labels) == (41, {"topic": "money"})


def test_reader_keeps_answering_while_a_writer_changes(index: Index, tiny_model: Path, tmp_path: Path) -> None:
    script = [Path(__file__).parent / "changes.py", index.directory, tiny_model, tmp_path / "done", "0.2"]
    process = subprocess.Popen([sys.executable, *map(str, script)], cwd=Path(__file__).parents[2])
    versions = set()
    while process.poll() is None:
        versions.add(index.manifest.version)
        [hits] = index.search(["a bank sold shares"], k=30)
        assert len(hits) == 30 == len({hit.id for hit in hits})
        assert all(hit.text for hit in hits)
    assert process.returncode == 0
    assert len(versions) > 2


def test_compacted_index_is_of_the_kind_asked_for_or_exact_where_too_few_are_left(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, factory="IVF8,SQ8")
    with IndexWriter(index.directory, model=model) as writer:
        writer.add(["a bank lost"])
        assert [info.factory for info in index.manifest.segments] == ["IVF8,SQ8", "Flat"]
        writer.compact()
        assert [info.factory for info in index.manifest.segments] == ["IVF8,SQ8"]
        writer.delete(range(36))
        writer.compact()
    assert [(info.factory, info.count) for info in index.manifest.segments] == [("Flat", 5)]
    assert [hit.id for hit in index.search(["a bank lost"], k=1)[0]] == [40]


def test_an_index_that_grows_by_small_segments_is_searched_as_their_kind_needs(
    index: Index, model: SentenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factories, "_EXACT_UP_TO", 5)
    monkeypatch.setattr(writer_module, "_EXACT_BELOW", 5)
    with IndexWriter(index.directory, model=model) as writer:
        writer.set_search({"refine": 3})
        for _ in range(writer_module._MOST_SEGMENTS):
            writer.add(["a bank lost"])
    assert [info.factory for info in index.manifest.segments] == ["Flat", "HNSW32,SQfp16"]
    assert index.manifest.search == {"ef_search": 64, "refine": 3}
