import json
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smim
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, save_model
from smim.search import Index, IndexWriter, build_index, index_texts, open_index
from smim.search import rows as rows_module
from smim.search import segment as segment_module
from smim.text.corpus import Corpus
from smim.text.words import WordTokenizer
from tests.corpora import write_corpus
from tests.models import sentence_args


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model: SentenceModel, corpus: Corpus, tiny_model: Path) -> Index:
    return build_index(model, corpus, tmp_path_factory.mktemp("indexes") / "tiny", model_dir=tiny_model)


@pytest.fixture
def copy(built: Index, tmp_path: Path) -> Path:
    """A copy of the index on disk, to be damaged."""
    return shutil.copytree(built.directory, tmp_path / "copy")


def other_model(directory: Path, like: Path) -> Path:
    autoencoder, tokenizer, _ = load_model(like)
    torch.manual_seed(1)
    other = SentenceAutoencoder(autoencoder.args, vocabulary_size=tokenizer.vocabulary_size)
    save_model(directory, other, tokenizer, training={"objective": "amim"})
    return directory


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, the operating system refuses to let a file grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_search_finds_the_sentence_itself_at_distance_zero(built: Index, corpus: Corpus) -> None:
    split = corpus.split("train")
    for row in (0, 17, 39):
        [[hit]] = built.search(split.texts([row]), k=1)
        assert (hit.id, hit.text) == (row, split.texts([row])[0])
        assert hit.labels == {"topic": split.labels("topic")[row]}
        assert hit.distance == pytest.approx(0, abs=1e-5)


def test_an_index_of_texts_answers_as_that_of_their_corpus(
    built: Index, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    texts = corpus.split("train").texts()
    index = index_texts(model, texts, tmp_path / "index", model_dir=tiny_model)
    [of_texts], [of_corpus] = index.search(texts[5:6], k=7), built.search(texts[5:6], k=7)
    assert [(hit.id, hit.text, hit.distance) for hit in of_texts] == [(h.id, h.text, h.distance) for h in of_corpus]
    assert open_index(index.directory).model.hash == model.hash


def test_texts_keep_their_ids_and_the_types_of_their_labels(
    model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    labels = {"stars": [5, None, 3], "price": [1.0, 2.5, None], "open": [True, False, True], "code": ["1", "2", "3"]}
    texts = ["a bank sold shares", "her brother lost", "the company lost"]
    index = index_texts(model, texts, tmp_path / "index", model_dir=tiny_model, ids=[17, 3, 40], labels=labels)
    rows = index.get([17, 3, 40])
    assert [row.text for row in rows] == texts
    assert {name: [row.labels[name] for row in rows] for name in labels} == labels
    assert [hit.id for hit in index.search(texts[:1], k=3, where={"stars": {"$gte": 4}})[0]] == [17]
    with IndexWriter(index.directory, model=model) as writer:
        assert writer.add(["a bank"], labels={"price": [3], "code": ["007"]}) == [41]
    assert index.get([41])[0].labels == {"stars": None, "price": 3.0, "open": None, "code": "007"}


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "no sentence to index"),
        (["a bank", " "], {"empty": "error"}, "is empty"),
        ([" ", "zyzzyva"], {}, "no text contains a word"),
        (["a bank", "shares"], {"ids": [3, 3]}, "the id 3 is given twice"),
        (["a bank", "shares"], {"ids": [3]}, "1 ids were given for 2 sentences"),
        (["a bank", "shares"], {"ids": [3, "x"]}, "ids must be a list of whole numbers"),
        (["a bank", "shares"], {"labels": {"stars": [3]}}, "'stars' must have one value for each of 2 sentences"),
        (["a bank", "shares"], {"labels": {"stars": [3, "x"]}}, "'stars' do not fit one another"),
        (["a bank", "shares"], {"labels": {"stars": [None, None]}}, "all labels 'stars' are missing"),
        (
            ["a bank", "shares"],
            {"labels": {"stars": [[3], [4]]}},
            r"'stars' must be text, .*, not \[3\]",
        ),
        (["a bank"], {"labels": {"id": [3], "length": [3]}}, "cannot be called id, length; rename"),
    ],
)
def test_texts_that_cannot_be_indexed_are_refused(
    model: SentenceModel, tiny_model: Path, tmp_path: Path, texts: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        index_texts(model, texts, tmp_path / "index", model_dir=tiny_model, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", ["l2", "inner_product", "cosine"])
def test_exact_index_agrees_with_brute_force(
    metric: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rows_module, segment_module):
        monkeypatch.setattr(module, "ROWS_PER_BATCH", 7)  # 40 rows come in several chunks, the last a short one
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, metric=metric)
    queries = corpus.split("test").texts()
    q, v = (model.encode(texts).astype(np.float64) for texts in (queries, corpus.split("train").texts()))
    cosine = (q @ v.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(v, axis=1)
    expected = {
        "l2": np.linalg.norm(q[:, None] - v, axis=-1),
        "inner_product": -(q @ v.T),
        "cosine": 1 - cosine,
    }[metric]
    for hits, distances in zip(index.search(queries, k=40), expected, strict=True):
        assert [hit.id for hit in hits] == np.argsort(distances).tolist()
        assert [hit.distance for hit in hits] == pytest.approx(np.sort(distances), abs=1e-5)


@pytest.mark.parametrize("factory", ["IVF2,Flat", "HNSW8", "PCA4,Flat"])
def test_other_factories_are_trained_and_find_the_sentence(
    factory: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, factory=factory)
    [hits] = index.search(corpus.split("train").texts([3]), k=2)
    assert hits[0].id == 3
    assert hits[0].distance == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("factory", ["IVF8,Flat", "HNSW2", "IVF8,SQ8"])
def test_approximate_index_finds_as_many_as_are_asked_for(
    factory: str, built: Index, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, factory=factory)
    [nine] = index.search(["a bank sold shares"], k=9, nprobe=1, ef_search=1)
    assert len({hit.id for hit in nine}) == 9
    for k in (40, 41, 10**30):
        [hits], [wanted] = (each.search(["a bank sold shares"], k=k) for each in (index, built))
        assert [hit.id for hit in hits] == [hit.id for hit in wanted] and len(hits) == 40


def test_codes_search_as_their_sentences_do(built: Index, model: SentenceModel) -> None:
    texts = ["a bank sold shares", "her brother lost the new law"]
    by_text = built.search(texts, k=3)
    assert built.search(model.encode(texts), k=3) == [[replace(hit, words=None) for hit in hits] for hits in by_text]
    assert all(
        hit.words == [word for word in text.split() if word in hit.text.split()]
        for text, hits in zip(texts, by_text, strict=True)
        for hit in hits
    )


def test_the_length_of_a_query_says_nothing_to_a_cosine_index(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, metric="cosine")
    codes, stored = np.random.default_rng(0).normal(size=(5, 8)), index.codes(range(40)).astype(np.float64)
    expected = 1 - codes @ stored.T / np.linalg.norm(codes, axis=1)[:, None]
    for factor in (0.01, 1, 100):
        for hits, distances in zip(index.search(factor * codes, k=40), expected, strict=True):
            assert [hit.id for hit in hits] == np.argsort(distances).tolist()
            assert [hit.distance for hit in hits] == pytest.approx(np.sort(distances), abs=1e-5)


def test_search_leaves_the_query_codes_as_they_were(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, metric="cosine")
    codes = np.full((1, 8), 3, dtype=np.float32)
    index.search(codes, k=1)
    assert (codes == 3).all()


@pytest.mark.parametrize("seed", range(4))
def test_distance_does_not_depend_on_how_many_queries_come_with_it(corpus: Corpus, tmp_path: Path, seed: int) -> None:
    args = sentence_args(latent_dim=512, hidden_dim=16, embedding_dim=12)
    torch.manual_seed(seed)
    autoencoder = SentenceAutoencoder(args, vocabulary_size=corpus.tokenizer.vocabulary_size)
    torch.nn.init.constant_(autoencoder.to_mean.bias, 10)  # far from the origin, |q - v|^2 cancels worst
    save_model(tmp_path / "model", autoencoder, corpus.tokenizer, training={"objective": "amim"})
    model = smim.load(tmp_path / "model", device="cpu")
    index = build_index(model, corpus, tmp_path / "index", model_dir=tmp_path / "model")
    queries = np.tile(index.codes(range(40)), (10, 1)) + np.float32(1e-3)
    for query, hits in zip(queries[:40], index.search(queries, k=1), strict=False):
        assert hits == index.search(query[None], k=1)[0]
        assert hits[0].distance == pytest.approx(1e-3 * 512**0.5, rel=0.01)


def test_ties_come_in_order_of_their_ids(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": text} for text in ["a bank sold shares", "her brother lost shares"] * 20]
    write_corpus(tmp_path / "twice", {"train": rows}, model.tokenizer, name="twice")
    index = build_index(model, Corpus.open(tmp_path / "twice"), tmp_path / "index", model_dir=tiny_model)
    for hits in index.search(["a bank sold shares"] * 30, k=25):
        assert [hit.id for hit in hits] == [*range(0, 40, 2), 1, 3, 5, 7, 9]


def test_reopened_index_answers_as_the_built_one(built: Index) -> None:
    reopened = open_index(built.directory)
    assert len(reopened) == 40
    assert reopened.model.hash == built.model.hash
    assert reopened.search(["a bank lost shares"], k=40) == built.search(["a bank lost shares"], k=40)


def test_manifest_describes_the_index(built: Index, tiny_model: Path, corpus: Corpus) -> None:
    manifest = json.loads((built.directory / "manifest.json").read_text())
    [segment] = manifest.pop("segments")
    assert len(manifest.pop("sha256")) == 64
    assert manifest == {
        "format": 3,
        "version": 1,
        "model": str(tiny_model.resolve()),
        "model_hash": built.model.hash,
        "tokenizer_hash": corpus.tokenizer.hash,
        "metric": "l2",
        "factory": "auto",
        "store": "fp32",
        "dimension": 8,
        "next_id": 40,
        "num_segments": 1,
        "columns": ["topic"],
        "search": {},
        "count": 40,
    }
    assert (segment["name"], segment["factory"], segment["count"]) == ("00000001", "Flat", 40)
    assert {name: file["bytes"] for name, file in segment["files"].items()} == {
        file.name: file.stat().st_size for file in (built.directory / "00000001").iterdir()
    }


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (0, "k is 0 and offset 0; k must be at least 1"),
        (2.5, "k is 2.5, but it must be a whole number"),
        ("3", "k is '3', but it must be a whole number"),
    ],
)
def test_k_that_cannot_be_is_refused(built: Index, k: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built.search(["a bank sold shares"], k=k)


@pytest.mark.parametrize(
    ("text", "message"),
    [("  ", "is empty"), ("zyzzyva qwerty", "has no word"), ("bank " * 21, "takes at most 20")],
)
def test_text_that_the_model_cannot_encode_is_refused(built: Index, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built.search([text])


def test_one_string_is_one_query(built: Index) -> None:
    assert built.search("a bank", 3) == built.search(["a bank"], 3)[0] and len(built.search("a bank", 3)) == 3
    assert built.search("a bank", 3).to_arrow() == built.search(["a bank"], 3).to_arrow()


def test_a_text_of_ten_megabytes_is_refused_and_not_repeated(built: Index) -> None:
    with pytest.raises(UserError, match="has 2000000 tokens, but this model takes at most 20") as refused:
        built.search(["bank " * 2_000_000])
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "queries",
    [None, 3, [3], [None], [[0.0] * 8], (text for text in ["a bank"])],
    ids=["nothing", "a number", "numbers", "nothings", "codes", "a generator"],
)
def test_queries_that_are_no_sentences_are_refused(built: Index, queries: Any) -> None:
    with pytest.raises(UserError, match="the sentences must be in a list"):
        built.search(queries, k=1)


@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat", "HNSW8"])
def test_whole_numbers_may_be_numpys(
    factory: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, factory=factory)
    three = np.int64(3)
    theirs = index.search(["a bank sold shares"], k=three, offset=three, nprobe=three, ef_search=three)
    assert theirs == index.search(["a bank sold shares"], k=3, offset=3, nprobe=3, ef_search=3)


def test_no_queries_have_no_hits(built: Index) -> None:
    assert built.search([]) == built.search(np.empty((0, 8))) == built.more_like([]) == built.get([]) == []


@pytest.mark.parametrize(
    "codes", [np.zeros(8), np.zeros((1, 7)), np.full((1, 8), np.nan), np.full((1, 8), 1e300), np.array([["a"] * 8])]
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_codes_of_a_wrong_shape_or_not_finite_are_refused(built: Index, codes: np.ndarray) -> None:
    with pytest.raises(UserError, match="query codes"):
        built.search(codes)


def test_index_of_another_model_is_refused(built: Index, tiny_model: Path, tmp_path: Path) -> None:
    other = smim.load(other_model(tmp_path / "other", tiny_model), device="cpu")
    with pytest.raises(UserError, match="built with another model"):
        open_index(built.directory, model=other)


def test_model_that_was_trained_on_in_its_place_is_refused(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    build_index(model, corpus, tmp_path / "index", model_dir=tmp_path / "model")
    other_model(tmp_path / "model", tiny_model)
    with pytest.raises(UserError, match="built with another model"):
        open_index(tmp_path / "index")


def test_index_that_another_model_takes_the_place_of_is_refused_until_it_is_back(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model)
    other = smim.load(other_model(tmp_path / "other", tiny_model), device="cpu")
    build_index(other, corpus, index.directory, model_dir=tmp_path / "other")
    for _ in range(2):
        with pytest.raises(UserError, match="built with another model"):
            index.search(["a bank sold shares"])
    build_index(model, corpus, index.directory, model_dir=tiny_model, split="test")
    assert len(index.search(["a bank sold shares"], k=10)[0]) == 10


def test_moved_model_can_be_given_by_hand(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    build_index(model, corpus, tmp_path / "index", model_dir=tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(UserError, match="--model"):
        open_index(tmp_path / "index")
    assert len(open_index(tmp_path / "index", model=smim.load(tmp_path / "moved"))) == 40


def test_corpus_of_another_tokenizer_is_refused(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": "other words"}]
    tokenizer = WordTokenizer.train(["other words"], splitter="whitespace")
    write_corpus(tmp_path / "other", {"train": rows}, tokenizer, name="other")
    with pytest.raises(UserError, match="prepared with another tokenizer"):
        build_index(model, Corpus.open(tmp_path / "other"), tmp_path / "index", model_dir=tiny_model)
    assert not (tmp_path / "index").exists()


def test_corpus_with_a_label_called_id_is_refused(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": "a bank sold shares", "id": "q1"}]
    write_corpus(tmp_path / "ids", {"train": rows}, model.tokenizer, name="ids")
    with pytest.raises(UserError, match="label column 'id'"):
        build_index(model, Corpus.open(tmp_path / "ids"), tmp_path / "index", model_dir=tiny_model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "cosin"}, "unknown metric 'cosin'; did you mean 'cosine'"),
        ({"factory": "Flatt"}, r"cannot make an index 'Flatt' .*\(could not parse index string Flatt\)"),
        ({"factory": "PQ3"}, "should be a multiple"),
        *(
            ({"factory": factory}, "has too low a number")
            for factory in ("IVF0,Flat", "HNSW0", "HNSW1", "PCA0,Flat", "PQ4x0")
        ),
        *(
            ({"factory": factory}, f"cannot apply filters in an index '{re.escape(factory)}'")
            for factory in ("PQ4x4", "LSH", "NSG16", "IDMap,Flat", "IVF2,PQ4x4,RFlat", "PCA4,LSH", "RQ2x4")
        ),
        ({"factory": "IVF64,Flat"}, r"cannot be trained on 40 sentences \(Number of training points"),
        ({"split": "dev"}, "no split 'dev'"),
    ],
)
def test_option_that_cannot_be_is_refused_and_nothing_is_left(
    options: dict[str, str], message: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, **options)
    assert list(tmp_path.iterdir()) == []


def test_existing_index_survives_a_failed_build(
    copy: Path, model: SentenceModel, corpus: Corpus, tiny_model: Path
) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(OSError, match="File too large"), files_of_at_most(6000):  # enough for the rows
        build_index(model, corpus, copy, model_dir=tiny_model, factory="HNSW32")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    assert list(copy.parent.iterdir()) == [copy]


def test_directory_that_is_no_index_is_never_replaced(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not an index"):
        build_index(model, corpus, tmp_path / "thesis", model_dir=tiny_model)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["vectors.faiss", "rows.arrow", "ids.npy"])
def test_truncated_file_is_refused(copy: Path, name: str) -> None:
    path = copy / "00000001" / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=f"^{copy}/00000001/{name} differs from its description"):
        open_index(copy)


@pytest.mark.parametrize("name", ["vectors.faiss", "rows.arrow"])
def test_file_swapped_for_one_of_the_same_size_is_refused(copy: Path, name: str) -> None:
    path = copy / "00000001" / name
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(UserError, match=f"{name} differs from its description"):
        open_index(copy)


def test_missing_file_is_refused(copy: Path) -> None:
    (copy / "00000001" / "rows.arrow").unlink()
    with pytest.raises(UserError, match=r"rows\.arrow is missing"):
        open_index(copy)


def test_entries_that_older_versions_do_not_know_are_written_where_they_say_something(copy: Path) -> None:
    def entries() -> set[str]:
        return {"memory", "column_types"} & set(json.loads((copy / "manifest.json").read_text()))

    assert entries() == set()
    with IndexWriter(copy) as writer:
        writer.delete(range(40))
        assert entries() == {"column_types"}
        writer.add(["a bank"], labels={"topic": ["money"]})
    assert open_index(copy).get([40])[0].labels == {"topic": "money"}


def test_newer_format_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 4, "tombstones": []}))
    with pytest.raises(UserError, match="index format 4, but this version reads 3"):
        open_index(copy)


@pytest.mark.parametrize("content", ["[]", '{"format": 3}', "{"])
def test_damaged_manifest_is_refused(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json (is not|was edited)"):
        open_index(copy)


@pytest.mark.parametrize(
    "change", [{"metric": "cosine"}, {"next_id": 3}, {"search": None}, {"segments": []}, {"more": 1}]
)
def test_edited_manifest_is_refused(copy: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(UserError, match=r"manifest\.json was edited or damaged"):
        open_index(copy)


def test_directory_that_is_no_index_is_refused(tiny_corpus: Path) -> None:
    with pytest.raises(UserError, match=r"is not an index .* `smim index build"):
        open_index(tiny_corpus)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nprobes": 3}, "no search setting 'nprobes'; did you mean 'nprobe'"),
        ({"nprobe": 0}, "nprobe is 0"),
        ({"nprobe": "4"}, "nprobe is '4', but it must be a whole number"),
    ],
)
def test_search_settings_that_there_are_not_are_refused(built: Index, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        built.search(["a bank sold shares"], k=1, **settings)
