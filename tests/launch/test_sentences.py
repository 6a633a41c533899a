"""The demo's sentences of English: what its last part shows is so."""

import smim
from launch.sentences import QUERIES, SENTENCES
from smim.search import index_texts


def test_search_by_meaning_finds_what_search_by_keywords_does_not(tmp_path):
    model = smim.load("english-small", device="cpu")
    index = index_texts(model, SENTENCES, tmp_path / "index")

    def found(mode: str) -> int:
        first = [hits[0].text if hits else None for hits in index.search(list(QUERIES), k=1, mode=mode)]
        return sum(text == meant for text, meant in zip(first, QUERIES.values(), strict=True))

    assert set(QUERIES.values()) <= set(SENTENCES) and len(set(SENTENCES)) == len(SENTENCES) > 50
    assert found("dense") >= 15 and found("sparse") <= 5
