"""A service answers as the index and the model do, whoever else is asking."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smim
from smim.errors import Unsupported, UserError
from smim.generation import SentenceModel
from smim.lock import BeingChanged
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import load_model, save_model
from smim.search import Index, IndexWriter, build_index, index_texts, open_index
from smim.search.errors import NoSuchSentence
from smim.search.query import Hit, Line, Options, Query, SearchResult, Sum
from smim.serve.backend import LocalBackend
from smim.serve.batching import Busy, Unavailable
from smim.serve.limits import Limits
from smim.serve.service import Service
from smim.text.words import WordTokenizer
from tests.models import sentence_args

ONE, OTHER = "the company sold shares", "her brother lost a small house"
Make = Callable[..., Service]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def as_hits(result: SearchResult) -> list[dict[str, Any]]:
    return [as_dict(hit) for hit in result.hits]


def as_dict(hit: Hit) -> dict[str, Any]:
    close = {name: pytest.approx(getattr(hit, name), abs=1e-3) for name in ("distance", "score")}
    return {"id": hit.id, "text": hit.text, "labels": hit.labels, "reconstruction": hit.reconstruction} | close


def same(results: list[SearchResult], hits: list[list[Hit]]) -> bool:
    return [as_hits(result) for result in results] == [[as_dict(hit) for hit in each] for each in hits]


@pytest.mark.parametrize(
    "options",
    [
        {"k": 3},
        {"k": 40},
        {"k": 3, "offset": 38},
        {"k": 4, "offset": 2, "where": {"topic": {"$ne": "money"}}},
        {"k": 30, "max_distance": 0.2},
        {"k": 3, "fold": "words"},
        {"k": 7, "offset": 2, "mode": "hybrid", "where": {"topic": {"$ne": "money"}}},
        {"k": 3, "reconstruct": True, "score": True},
        {"k": 3, "where": {"topic": "none such"}, "reconstruct": True, "score": True},
    ],
    ids=str,
)
def test_a_search_is_that_of_the_index(serve: Make, index: Index, options: dict[str, Any]) -> None:
    service = serve()
    assert same(
        run(service.search([Query(text=ONE), Query(text=OTHER)], Options(**options))),
        index.search([ONE, OTHER], **options),
    )
    assert same(run(service.search([Query(id=3), Query(id=7)], Options(**options))), index.more_like([3, 7], **options))
    if not options.get("score"):
        codes = index.codes([5])
        assert same(
            run(service.search([Query(code=codes[0].tolist())], Options(**options))), index.search(codes, **options)
        )


def test_more_hits_than_may_wait_are_folded(serve: Make, index: Index) -> None:
    options = Options(k=30, fold="words")
    [result] = run(serve(max_batch=16, max_num=16, queue_size=16).search([Query(text=ONE)], options))
    assert len(result.hits) == 30 and same([result], index.search([ONE], k=30, fold="words"))


def test_queries_of_all_kinds_in_one_search_are_those_alone(serve: Make, index: Index, model: SentenceModel) -> None:
    queries = [
        Query(line=Line(ONE, OTHER, 0.3)),
        Query(id=3),
        Query(text=ONE),
        Query(sum=Sum([ONE, OTHER], [ONE])),
        Query(id=11),
    ]
    results = run(serve().search(queries, Options(k=4, decode=True, reconstruct=True)))
    start, end = model.encode([ONE, OTHER])
    codes = [
        start + 0.3 * (end - start),
        index.codes([3])[0],
        start,
        model.arithmetic([ONE, OTHER], [ONE]),
        index.codes([11])[0],
    ]
    expected = index.search(np.stack(codes), 4, reconstruct=True)
    expected[1], expected[4] = index.more_like([3, 11], 4, reconstruct=True)
    assert same(results, expected)
    decoded = [result.decoded for result in results]
    assert decoded == model.decode(np.stack(codes)) and len(set(decoded)) == 5
    assert len({hit.reconstruction for result in results for hit in result.hits}) > 4


def test_scores_go_with_their_queries_where_texts_and_ids_are_mixed(serve: Make, index: Index) -> None:
    queries = [Query(id=3), Query(text=ONE), Query(id=9), Query(text=OTHER)]
    results = run(serve().search(queries, Options(k=4, score=True)))
    [of_3, of_9], [of_one, of_other] = index.more_like([3, 9], 4, score=True), index.search([ONE, OTHER], 4, score=True)
    assert same(results, [of_3, of_one, of_9, of_other])


def test_a_cosine_indexs_sentence_decodes_from_its_own_code(
    model: SentenceModel, corpus: Any, asking_model: Any, tmp_path: Any
) -> None:
    index = build_index(model, corpus, tmp_path / "cosine", model_dir=asking_model, metric="cosine")
    service = Service(model, LocalBackend(index.directory, model=model))
    results = run(service.search([Query(id=3), Query(text=ONE)], Options(k=3, decode=True)))
    texts = [index.get([3])[0].text, ONE]
    assert [result.decoded for result in results] == model.reconstruct(texts)
    assert results[0].decoded != results[1].decoded
    assert same(results, [*index.more_like([3], 3), *index.search([ONE], 3)])


def test_the_model_is_that_of_the_library(serve: Make, model: SentenceModel) -> None:
    service = serve()

    async def all_of_them() -> None:
        means, log_variances, cut = await service.encode([ONE, "zzz"])
        mean, log_variance = np.stack(means), np.stack(log_variances)
        assert cut == []
        posterior = model.posterior([ONE, "zzz"])
        np.testing.assert_allclose(mean, posterior.mean, atol=1e-5)
        np.testing.assert_allclose(log_variance, posterior.log_variance, atol=1e-5)
        codes = mean.tolist()
        written = [
            (service.decode(codes), model.decode(mean)),
            (service.decode(codes, True, 3), model.decode(mean, sample=True, seed=3)),
            (service.reconstruct([ONE, OTHER]), model.reconstruct([ONE, OTHER])),
            (service.reconstruct([ONE, OTHER], True, 4), model.reconstruct([ONE, OTHER], sample=True, seed=4)),
            (service.interpolate(ONE, OTHER, 7), model.interpolate(ONE, OTHER, steps=7)),
            (service.perturb(ONE, 4, 20.0, 5), model.perturb(ONE, num=4, scale=20.0, seed=5)),
            (service.sample(4, 1.0, 6), model.sample(4, standard_deviation=1.0, seed=6)),
            (service.decode(codes, candidates=3, seed=3), model.decode(mean, candidates=3, seed=3)),
            (service.sample(4, prior=True, seed=6), model.sample(4, prior=True, seed=6)),
        ]
        for work, sentences in written:
            assert await work == sentences and len(set(sentences)) > 1
        assert await service.answer(ONE, 10) == model.answer(ONE) != ""
        assert await service.answer("the law", 3) == model.answer("the law", num_words=3) != model.answer("the law")
        code, sentence = await service.arithmetic([ONE, ONE], [OTHER])
        np.testing.assert_allclose(code, model.arithmetic([ONE, ONE], [OTHER]), atol=1e-5)
        assert [sentence] == model.decode(code[None]) != model.reconstruct([ONE])

    run(all_of_them())


def test_a_model_is_used_as_it_says_and_as_literally_as_is_asked(meaning_model: Path, tmp_path: Path) -> None:
    autoencoder, tokenizer, config = load_model(meaning_model)
    use = {"perturb_scale": 300.0, "sample": {"chain_steps": 2, "standard_deviation": 1.0}}
    save_model(tmp_path / "model", autoencoder, tokenizer, training=config["training"], use=use)
    model = smim.load(tmp_path / "model", device="cpu")
    index = index_texts(model, [ONE, OTHER], tmp_path / "index", model_dir=tmp_path / "model")
    service = Service(model, LocalBackend(index.directory, model=model))

    async def all_of_them() -> None:
        codes = model.encode([ONE, OTHER])
        alike = [
            (service.decode(codes.tolist(), literal=0.0), model.decode(codes, literal=0.0)),
            (service.decode(codes.tolist(), literal=0.5, seed=2), model.decode(codes, literal=0.5, seed=2)),
            (service.reconstruct([ONE, OTHER], literal=0.0, candidates=1, seed=3),
             model.reconstruct([ONE, OTHER], literal=0.0, candidates=1, seed=3)),
            (service.decode(codes.tolist(), literal=0.5, beam=4), model.decode(codes, literal=0.5, beam=4)),
            (service.reconstruct([ONE, OTHER], beam=4), model.reconstruct([ONE, OTHER], beam=4)),
            (service.interpolate(ONE, OTHER, 7, 4), model.interpolate(ONE, OTHER, steps=7, seed=4)),
            (service.interpolate(ONE, OTHER, 7, literal=1.0), model.interpolate(ONE, OTHER, steps=7, literal=1.0)),
            (service.perturb(ONE, seed=5), model.perturb(ONE, scale=300, literal=0.0, seed=5)),
            (service.perturb(ONE, literal=1.0), model.perturb(ONE, literal=1.0)),
            (service.sample(seed=6), model.sample(standard_deviation=1.0, chain_steps=2, literal=0.0, seed=6)),
        ]  # fmt: skip
        written = await asyncio.gather(*(work for work, _ in alike))
        assert written == [sentences for _, sentences in alike] and len({*map(tuple, written)}) == len(alike)
        code, sentence = await service.arithmetic([ONE, ONE], [OTHER])
        assert [sentence] == model.decode(code[None], literal=0.0)
        with pytest.raises(Unsupported, match="not trained on questions"):
            await service.answer(ONE)

    run(all_of_them())


def test_a_model_that_knows_no_english_is_served(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train(["der Hund schläft", "die Katze schläft"], splitter="whitespace")
    autoencoder = SentenceAutoencoder(sentence_args(latent_dim=8), vocabulary_size=tokenizer.vocabulary_size)
    save_model(tmp_path / "model", autoencoder, tokenizer, training={"objective": "amim"})
    german = smim.load(tmp_path / "model", device="cpu")
    index = index_texts(german, ["der Hund schläft", "die Katze"], tmp_path / "index", model_dir=tmp_path / "model")
    [result] = run(Service(german, LocalBackend(index.directory)).search([Query(text="die Katze")], Options(k=1)))
    assert [hit.text for hit in result.hits] == ["die Katze"]


def test_sentences_are_added_replaced_deleted_and_counted(serve: Make) -> None:
    service = serve()

    async def change() -> None:
        assert (await service.add([ONE, OTHER], labels={"topic": ["money", None]})).ids == [40, 41]
        assert [row.labels for row in await service.get([41, 40])] == [{"topic": None}, {"topic": "money"}]
        assert (await service.upsert([OTHER], [40])).ids == [40]
        assert [row.text for row in await service.get([40])] == [OTHER]
        assert (await service.describe()).count == await service.count() == 42
        assert await service.delete([40, 41]) == 2
        money = await service.count({"topic": "money"})
        assert await service.delete(where={"topic": "money"}) == money > 0
        assert await service.count({"topic": "money"}) == 0
        with pytest.raises(NoSuchSentence, match="holds no sentence with id 40"):
            await service.get([40])
        with pytest.raises(NoSuchSentence):
            await service.search([Query(id=40)])

    run(change())


def test_another_writer_is_a_conflict(serve: Make, index: Index) -> None:
    with IndexWriter(index.directory), pytest.raises(BeingChanged):
        run(serve().add([ONE]))


@pytest.mark.parametrize(("query", "found"), [(Query(text=ONE), 40), (Query(id=3), 39)])
def test_more_than_there_are_finds_all(serve: Make, query: Query, found: int) -> None:
    [result] = run(serve().search([query], Options(k=50)))
    assert len({hit.id for hit in result.hits}) == found


@pytest.mark.parametrize(
    "query, options, message",
    [
        (Query(text=ONE), {"k": 0}, "k is 0"),
        (Query(text=ONE), {"offset": -1}, "offset must not be negative"),
        (Query(text=ONE), {"k": 30, "offset": 30}, "at most 50"),
        (Query(text=" "), {}, "is empty"),
        (Query(text="x" * 101), {}, "101 characters"),
        (Query(text="zzz"), {}, "has no word"),
        (Query(text=ONE), {"where": {"colour": 1}}, "no column 'colour'"),
        (Query(text=ONE), {"settings": {"nprobes": 1}}, "no search setting"),
        (Query(text=ONE), {"settings": {"refine": 33}}, "at most 32"),
        (Query(code=[1.0]), {}, "codes have shape"),
        (Query(code=[float("nan")] * 8), {}, "NaN"),
        (Query(code=[1e39] * 8), {}, "beyond"),
        (Query(code=[0.0] * 8), {"score": True}, "queries must be sentences or ids"),
        (Query(line=Line(ONE, OTHER, float("nan"))), {}, "at is nan"),
        (Query(sum=Sum([])), {}, "at least one"),
        (Query(id=-1), {}, "from 0"),
        (Query(id=2**63), {}, "from 0"),
        (Query(text=ONE), {"max_distance": float("nan")}, "max_distance is nan"),
        (Query(text=ONE), {"mode": "words"}, "mode is 'words'"),
        (Query(code=[0.0] * 8), {"mode": "sparse"}, "queries must be sentences or ids"),
    ],
    ids=str,
)
def test_a_wrong_search_is_refused(serve: Make, query: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(serve(max_text=100, max_k=50).search([query], Options(**options)))


def test_what_is_asked_for_is_bounded(serve: Make) -> None:
    service = serve(max_batch=2, max_num=3, max_hits=6, queue_size=300)

    async def refused(work: Coroutine[Any, Any, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            await work

    async def all_of_them() -> None:
        await refused(service.encode([ONE] * 3), "3 texts")
        await refused(service.encode([]), "0 texts")
        await refused(service.decode([[0.0] * 8] * 3), "3 codes")
        await refused(service.search([Query(id=1)] * 2, Options(k=4)), "at most 6")
        await refused(service.search([Query(id=1)], Options(k=3, reconstruct=True)), "at most 2")
        await refused(service.sample(4), "num is 4")
        await refused(service.perturb(ONE, 4), "num is 4")
        await refused(service.interpolate(ONE, OTHER, 1), "steps is 1")
        await refused(service.answer(ONE, 0), "num_words is 0")
        await refused(service.sample(1, seed=-1), "seed is -1")
        await refused(service.sample(1, float("inf")), "standard_deviation is inf")
        await refused(
            service.decode([[0.0] * 8] * 2, candidates=200), "2 codes with 200 candidates each, but at most 300"
        )
        await refused(service.decode([[0.0] * 8] * 2, beam=200), "fewer codes, candidates or hypotheses of a beam")
        await refused(service.decode([[0.0] * 8], candidates=257), "from 1 to 256")
        await refused(service.decode([[0.0] * 8], literal=0.5), "no meaning part")
        await refused(service.get([1, 2, 3]), "3 ids")
        await refused(service.delete(), "give either the ids")

    run(all_of_them())


def test_unk_is_decoded_only_for_those_who_ask_for_it(index: Index, unknowing_model: Path) -> None:
    model = smim.load(unknowing_model, device="cpu")
    service = Service(model, LocalBackend(index.directory))
    codes = model.encode([ONE, OTHER]).tolist()

    async def together(**options: bool) -> list[Any]:
        return await asyncio.gather(
            service.decode(codes, **options),
            service.decode(codes, True, **options),
            service.reconstruct([ONE, OTHER], **options),
            service.interpolate(ONE, OTHER, **options),
            service.perturb(ONE, **options),
            service.arithmetic([ONE, OTHER], **options),
            service.sample(**options),
            service.search([Query(text=ONE)], Options(decode=True, reconstruct=True)),
        )

    async def both() -> list[list[Any]]:
        return await asyncio.gather(together(), together(allow_unknown=True))

    without, asked_for = ([str(each) for each in answers] for answers in run(both()))
    assert ["<unk>" in each for each in without] == [False] * 8
    assert ["<unk>" in each for each in asked_for] == [True] * 7 + [False]


def _mixed(service: Service, i: int) -> Coroutine[Any, Any, Any]:
    text = [ONE, OTHER, "a bank bought the new law"][i % 3]
    return [
        lambda: service.search([Query(text=text)], Options(k=1 + i % 4, decode=True)),
        lambda: service.search(
            [Query(id=i % 40), Query(line=Line(ONE, text, i / 50))], Options(k=3, where={"topic": "money"})
        ),
        lambda: service.sample(2, 1.0, seed=i),
        lambda: service.perturb(text, 3, seed=i),
        lambda: service.reconstruct([text, ONE], True, seed=i),
        lambda: service.search([Query(text="zzz")]),  # a mistake
        lambda: service.answer(text, 2),
    ][i % 7]()


def test_fifty_at_a_time_get_what_each_gets_alone(serve: Make) -> None:
    service = serve()
    sizes: list[int] = []
    for batcher in service.batchers:
        batcher.observe = sizes.append

    async def one_after_another() -> list[Any]:
        return [(await asyncio.gather(_mixed(service, i), return_exceptions=True))[0] for i in range(50)]

    async def together() -> list[Any]:
        return await asyncio.gather(*(_mixed(service, i) for i in range(50)), return_exceptions=True)

    alone = run(one_after_another())
    answers = [each for i, each in enumerate(alone) if i % 7 == 6]
    assert all(answers) and len(set(answers)) == 3
    sizes.clear()
    both = run(together())
    assert max(sizes) > 10, "they were not computed together"
    for i, (one, other) in enumerate(zip(alone, both, strict=True)):
        if i % 7 == 5:
            assert isinstance(one, UserError) and str(one) == str(other)
        elif one and isinstance(one[0], SearchResult):
            assert [(r.decoded, as_hits(r)) for r in one] == [(r.decoded, as_hits(r)) for r in other]
        else:
            assert one == other


def test_what_was_accepted_is_finished_and_the_rest_refused_when_closing(serve: Make) -> None:
    service = serve()

    async def close_meanwhile() -> list[Any]:
        accepted = [asyncio.create_task(_mixed(service, i)) for i in range(20)]
        await asyncio.sleep(0)
        await service.close()
        assert all(each.done() for each in accepted)
        with pytest.raises(Unavailable):
            await service.encode([ONE])
        return await asyncio.gather(*accepted, return_exceptions=True)

    results = run(close_meanwhile())
    assert not any(isinstance(each, Unavailable | Busy) for each in results)


def test_a_full_queue_refuses_and_says_when_to_come_again(serve: Make) -> None:
    service = serve(max_batch=4, max_num=4, queue_size=8)

    async def overload() -> list[Any]:
        return await asyncio.gather(*(service.encode([ONE] * 4) for _ in range(20)), return_exceptions=True)

    results = run(overload())
    refused = [each for each in results if isinstance(each, Busy)]
    assert 0 < len(refused) < 20 and all(each.retry_after >= 1 for each in refused)
    assert sum(isinstance(each, tuple) for each in results) == 20 - len(refused)


def test_limits_under_which_no_request_would_pass_are_refused() -> None:
    with pytest.raises(UserError, match="queue_size"):
        Limits(queue_size=10)
    with pytest.raises(UserError, match="max_k"):
        Limits(max_k=0)


def test_a_services_reranker_orders_the_first_hits(model: SentenceModel, index: Index) -> None:
    def by_length(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [len(text) for _, text in pairs]

    service = Service(model, LocalBackend(index.directory, model=model), Limits(max_batch=40), reranker=by_length)
    own = open_index(index.directory, model=model, reranker=by_length)

    async def ask() -> None:
        text = "a bank sold shares"
        [result] = await service.search([Query(text=text)], Options(k=4, offset=1, rerank=9))
        expected = own.search([text], 4, offset=1, rerank=9)[0]
        assert [(hit.id, hit.relevance) for hit in result.hits] == [(hit.id, hit.relevance) for hit in expected]
        with pytest.raises(UserError, match="at most 40 in all"):
            await service.search([Query(text=text)] * 5, Options(k=1, rerank=9))
        await service.close()

    asyncio.run(ask())
