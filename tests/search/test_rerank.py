"""The first hits of a search in another order: by log q(z|query), a function, or a cross-encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, index_texts, open_index
from smim.search.query import Line, Query
from smim.search.rerank import cross_encoder
from tests.commands import make_command

QUERY = "a bank sold shares"


def by_length(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The longer, the better; and the query is what was asked for."""
    assert {query for query, _ in pairs} <= {QUERY, "her brother lost the new law"}
    return [len(text) for _, text in pairs]


@pytest.fixture
def lengths(index: Index, model: SentenceModel) -> Index:
    return open_index(index.directory, model=model, reranker=by_length)


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_the_first_are_ordered_anew_and_the_others_stay_behind(index: Index, lengths: Index, mode: str) -> None:
    plain = index.search([QUERY], 20, mode=mode)[0]
    found = lengths.search([QUERY], 20, mode=mode, rerank=8)[0]
    assert [hit.id for hit in found[:8]] == [hit.id for hit in sorted(plain[:8], key=lambda hit: -len(hit.text))]
    assert [hit.id for hit in found[8:]] == [hit.id for hit in plain[8:]]
    assert [hit.relevance for hit in found[:9]] == [*(len(hit.text) for hit in found[:8]), None]


def test_pages_are_parts_of_one_order(lengths: Index) -> None:
    whole = lengths.search([QUERY], 12, rerank=10)[0]
    pages = [lengths.search([QUERY], 3, offset=offset, rerank=10)[0] for offset in range(0, 12, 3)]
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in whole]
    assert len(lengths.search([QUERY], 100, rerank=100)[0]) == 40


def test_by_default_they_go_by_log_q(index: Index) -> None:
    hits = index.search([QUERY, "her brother lost the new law"], 10, score=True)
    for plain, found in zip(hits, index.search([QUERY, "her brother lost the new law"], 5, rerank=10), strict=True):
        best = sorted(plain, key=lambda hit: -hit.score)
        assert [hit.id for hit in found] == [hit.id for hit in best[:5]]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in best[:5]], abs=1e-3)


def test_more_like_a_sentence_is_judged_by_its_text(index: Index, model: SentenceModel) -> None:
    asked: list[str] = []

    def judge(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(query for query, _ in pairs)
        return by_length([(QUERY, text) for _, text in pairs])

    opened, text = open_index(index.directory, model=model, reranker=judge), index.get([7])[0].text
    found = opened.search([Query(id=7)], 5, rerank=5)[0]
    plain = index.search([Query(id=7)], 5)[0]
    assert [hit.id for hit in found] == [hit.id for hit in sorted(plain, key=lambda hit: -len(hit.text))]
    assert 7 not in [hit.id for hit in found] and asked == [text] * 5


def test_a_threshold_and_folding_come_before(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    texts = [QUERY, "a bank lost a small house", QUERY, "a bank bought shares"]
    index = index_texts(model, texts, tmp_path / "index", model_dir=tiny_model)
    lengths = open_index(index.directory, model=model, reranker=by_length)
    found = lengths.search([QUERY], 3, fold="text", rerank=3)[0]
    assert [hit.text for hit in found] == [texts[1], texts[3], QUERY] and found[2].count == 2
    *near, farthest = index.search([QUERY], 4)[0]
    left = lengths.search([QUERY], 4, rerank=4, max_distance=near[-1].distance)[0]
    assert near[-1].distance < farthest.distance
    assert sorted(hit.id for hit in left) == sorted(hit.id for hit in near)


@pytest.mark.parametrize(
    "queries, options, message",
    [
        ([Query(line=Line("a bank", "the law"))], {"rerank": 3}, "queries must be sentences or ids"),
        (np.zeros((1, 8), np.float32), {"rerank": 3}, "queries must be sentences or ids"),
        ([QUERY], {"rerank": -1}, "not be negative"),
        ([QUERY], {"rerank": 1.5}, "whole number"),
    ],
)
def test_what_cannot_be_reranked_is_told(index: Index, queries: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        index.search(queries, 3, **options)


@pytest.mark.parametrize("scores", [[1.0], [[1.0]] * 5, [float("nan")] * 5])
def test_scores_that_are_none_are_refused(index: Index, model: SentenceModel, scores: Any) -> None:
    wrong = open_index(index.directory, model=model, reranker=lambda pairs: scores)
    with pytest.raises(UserError, match="no finite score"):
        wrong.search([QUERY], 5, rerank=5)


def write_cross_encoder(directory: Path, labels: int = 1) -> Path:
    """With random numbers, of the tiny corpus's words."""
    import torch
    from sentence_transformers import CrossEncoder
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from tests.teachers import WORDS

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS.split()]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(words), num_labels=labels, max_position_embeddings=64, **sizes)
    BertForSequenceClassification(config).save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(directory)
    assert CrossEncoder(str(directory)).num_labels == labels
    return directory


def test_a_cross_encoder_of_a_directory_in_python_and_by_the_command(
    index: Index,
    model: SentenceModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = write_cross_encoder(tmp_path / "cross")
    judge = cross_encoder(directory)
    texts = [hit.text for hit in index.search([QUERY], 10)[0]]
    scores = judge([(QUERY, text) for text in texts])
    assert len(set(scores)) > 5
    best = [text for _, text in sorted(zip(scores, texts, strict=True), key=lambda pair: -pair[0])]
    opened = open_index(index.directory, model=model, reranker=judge)
    assert [hit.text for hit in opened.search([QUERY], 4, rerank=10)[0]] == best[:4]

    capsys.readouterr()  # what libraries said
    command = make_command(monkeypatch, capsys, "search")
    done = command(index.directory, QUERY, "-k", 4, "--rerank", 10, "--reranker", directory)
    assert done.status == 0, done.err
    assert [cells[4] for cells in done.cells] == best[:4] and float(done.cells[0][-1]) == pytest.approx(
        max(scores), abs=1e-3
    )
    refused = command(index.directory, QUERY, "--reranker", directory)
    assert refused.status == 2 and "--rerank N" in refused.err
    absent = command(index.directory, QUERY, "--rerank", 3, "--reranker", tmp_path / "none")
    assert absent.status == 2 and "cannot be loaded as a cross-encoder" in absent.err
    with pytest.raises(UserError, match="gives 3 numbers"):
        cross_encoder(write_cross_encoder(tmp_path / "three", labels=3))


def test_deleted_sentences_are_not_found_again(lengths: Index, model: SentenceModel) -> None:
    longest = lengths.search([QUERY], 1, rerank=40)[0][0]
    with IndexWriter(lengths.directory, model=model) as writer:
        writer.delete([longest.id])
    assert longest.id not in [hit.id for hit in lengths.search([QUERY], 40, rerank=40)[0]]
