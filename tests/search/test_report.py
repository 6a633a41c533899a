from pathlib import Path

import numpy as np
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index
from smim.search.report import measure
from smim.text.corpus import Corpus


def test_exact_index_has_recall_one_and_nothing_to_try(index: Index) -> None:
    report = measure(index, queries=1000)
    assert (report.count, report.queries, report.current.recall) == (40, 40, 1)
    assert report.tried == [] and report.suggested == report.current
    assert report.bytes == {p.name: p.stat().st_size for p in (index.directory / "00000001").iterdir()}


@pytest.mark.parametrize("factory", ["IVF8,Flat", "IVF8,SQ4", "HNSW4"])
def test_recall_is_that_of_a_count_by_hand_and_the_suggestion_reaches_it(
    factory: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, factory=factory)
    with IndexWriter(index.directory, model=model) as writer:
        writer.set_search({"nprobe": 1, "ef_search": 1, "refine": 1})
    report = measure(index, k=5, queries=40, recall=1.0)
    exact = build_index(model, corpus, tmp_path / "exact", model_dir=tiny_model, factory="Flat")
    pairs = zip(index.more_like(range(40), k=5), exact.more_like(range(40), k=5), strict=True)
    by_hand = [len({hit.id for hit in found} & {hit.id for hit in wanted}) for found, wanted in pairs]
    assert report.current.recall == pytest.approx(np.mean(by_hand) / 5)
    assert report.suggested is not None and report.suggested.recall == 1
    assert report.current.recall < 1 or factory == "HNSW4"
    if factory == "HNSW4":  # a second width finds all sentences too, so that wider searches are not tried
        assert [each.settings["ef_search"] for each in report.tried] == [32, 64]


@pytest.mark.parametrize("options", [{"k": 0}, {"queries": 0}, {"recall": 1.5}, {"k": 40}])
def test_what_cannot_be_measured_is_refused(index: Index, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="recall"):
        measure(index, **options)
