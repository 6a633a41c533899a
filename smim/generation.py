"""A trained model as users see it: text to code and back, interpolation, perturbation, samples, answers.

Shapes: N sentences, D latent dimensions, T tokens.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smim.arrays import as_matrix
from smim.errors import RowError, Unsupported, UserError, check_size, check_whole
from smim.model import noise
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.decoding import decode_ids
from smim.model.directory import find, hash_of, is_deterministic, load_model, use_of
from smim.model.distributions import DiagonalGaussian
from smim.model.nearest import EXACT, nearest_ids, share_left
from smim.model.use import Use, Writing
from smim.progress import sentences_bar
from smim.similarity import distances, similarity
from smim.text.batch import Batch, collate
from smim.text.batches import evaluation_order
from smim.text.fitting import Fitted, TextsChanged, fit, is_missing, shown
from smim.text.tokenizer import UNK_ID, Tokenizer

_TOKENS_PER_BATCH = 8192
_SMALLEST = 1e-6
DECODED_LENGTH = 100


def load(directory: Path | str, *, device: str | None = None) -> "SentenceModel":
    """Loads a trained model, by default onto the GPU where there is one.

        model = smim.load("runs/ptb_smim_512/model")
        model = smim.load("english-small")  # comes with the package

    Raises `UserError` where the directory is not a model or is damaged.
    """
    autoencoder, tokenizer, config = load_model(directory)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return SentenceModel(autoencoder.to(target), tokenizer, config, hash=hash_of(directory), directory=find(directory))


def check_sentences(texts: Any, *, missing: bool = False) -> None:
    """Raises `UserError` for what is no list of strings, and for strings that UTF-8 cannot hold.

    `missing`: None, NaN and the like may be among them.
    """
    if isinstance(texts, str):
        raise UserError("a list of sentences is needed, not one string: write [text]")
    if not isinstance(texts, Collection) or not all(
        isinstance(text, str) or (missing and is_missing(text)) for text in texts
    ):
        raise UserError(f"a list of sentences is needed, not {str(texts)[:60]}")
    for row, text in enumerate(texts):
        try:
            if isinstance(text, str):
                text.encode()
        except UnicodeEncodeError:
            what = f"the text {shown(text)} holds a half of a surrogate pair, which is no text"
            raise RowError(what, row, numbered=False) from None


def _unseen(number: int) -> None:
    """Shows no progress."""


class TrainedModel:
    """A trained model of whatever kind of data: its latent space. `hash` names it, as `hash_of` its directory does."""

    autoencoder: Any
    config: dict[str, Any]
    hash: str

    @property
    def latent_dim(self) -> int:
        return self.autoencoder.args.latent_dim

    @property
    def deterministic(self) -> bool:
        """True for an autoencoder, whose variance was never trained: its code is the mean."""
        return is_deterministic(self.config)

    def checked_codes(self, codes: np.ndarray | Tensor) -> Tensor:
        """Codes [N, D], or one [D], of any type of numbers, as fp32 [N, D]; raises `UserError` for others, and NaN."""
        one = isinstance(codes, np.ndarray | Tensor) and codes.ndim == 1 and len(codes) == self.latent_dim
        return torch.from_numpy(as_matrix(codes[None] if one else codes, self.latent_dim, "codes"))


class SentenceModel(TrainedModel):
    """Encodes sentences into codes and decodes codes into sentences, in fp32. `directory`: where it was loaded from."""

    def __init__(
        self,
        autoencoder: SentenceAutoencoder,
        tokenizer: Tokenizer,
        config: dict[str, Any],
        *,
        hash: str,
        directory: Path | None = None,
    ) -> None:
        self.autoencoder, self.tokenizer, self.config, self.hash = autoencoder, tokenizer, config, hash
        self.directory = directory

    def __repr__(self) -> str:
        part = f", {self.dimension_of('meaning')} of them meaning," if self.has_meaning_part else ""
        return (
            f"<SentenceModel {self.directory or 'without a directory'}: {self.autoencoder.args.kind}; codes of "
            f"{self.latent_dim} dimensions{part} compared by {self.use.metric}>"
        )

    @cached_property
    def use(self) -> Use:
        """What methods take where they are asked for nothing else."""
        return use_of(self.config)

    @property
    def has_meaning_part(self) -> bool:
        """Whether `literal` below 1, and an index of the meaning part, can be asked for."""
        return self.autoencoder.meaning_dim < self.latent_dim

    def dimension_of(self, part: str | None) -> int:
        """How many of a code's first numbers its `part` has: the meaning's, or all for None."""
        return self.autoencoder.meaning_dim if part == "meaning" else self.latent_dim

    def combined(self, weights: Sequence[float], codes_ND: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """The weighted sum of codes, fp32 [D]: a point between two, sums and differences.

        Of codes with a meaning part only the rest is summed so. A meaning part is a direction, as long as its sentence:
        the directions are summed, whatever their lengths, and the sum is made as long as the parts are on the mean.
        """
        weights_N, codes_ND = np.asarray(weights, np.float32), np.asarray(codes_ND, np.float32)
        code_D = weights_N @ codes_ND
        if self.has_meaning_part and len(weights_N) > 1:
            meaning_NM = codes_ND[:, : self.dimension_of("meaning")]
            length_N = np.linalg.norm(meaning_NM, axis=1)
            sum_M = weights_N @ (meaning_NM / np.maximum(length_N, _SMALLEST)[:, None])
            share_N = np.abs(weights_N) / np.abs(weights_N).sum()
            code_D[: len(sum_M)] = sum_M * (share_N @ length_N / max(np.linalg.norm(sum_M), _SMALLEST))
        return code_D

    def line(self, start_D: np.ndarray, end_D: np.ndarray, *, steps: int) -> np.ndarray:
        """Codes evenly spaced from the one to the other, both included, fp32 [steps, D]."""
        between = [self.combined([1 - t, t], [start_D, end_D]) for t in np.linspace(0, 1, steps)[1:-1]]
        return np.stack([start_D, *between, end_D])

    def draw(self, posterior: DiagonalGaussian, noise: Tensor) -> Tensor:
        """z ~ q(z|x) from standard normal `noise` [N, D]; the mean where the model is deterministic."""
        return posterior.mean if self.deterministic else posterior.sample(noise.to(posterior.mean.device))

    def encode(
        self,
        texts: Sequence[str] | str,
        *,
        allow_unknown: bool = True,
        too_long: str = "truncate",
        empty: str = "error",
        normalize: bool = False,
        batch_size: int | None = None,
        show_progress: bool = False,
    ) -> np.ndarray:
        """The mean of q(z|x) for each sentence, fp32 [N, D]; of one string its code, [D].

            model.encode(["the company said profit rose"]).shape  # (1, 512)

        `too_long`: `truncate` cuts a text after the model's limit, and warns; `skip` gives it NaN, and warns; `error`
        refuses it. `empty`: `error` refuses texts without a word, None and NaN, `skip` gives them NaN, and warns;
        unless `allow_unknown`, a text of which the vocabulary holds no word is one of them. `normalize`: codes of
        length one. `batch_size`: so many sentences at a time at most; never more than 8,192 tokens. `show_progress`:
        whether a terminal shows how much is done.

        Raises `UserError` for what is no list of texts, and where a text does not fit and that is an error.
        """
        several = [texts] if isinstance(texts, str) else texts
        fitted = self.fitted(several, allow_unknown=allow_unknown, too_long=too_long, empty=empty)
        codes = np.full((len(several), self.latent_dim), np.nan, np.float32)
        posterior = self.posterior_of_ids(fitted.ids, batch_size=batch_size, show_progress=show_progress)
        codes[fitted.rows] = posterior.mean.numpy()
        if normalize:
            codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), _SMALLEST)
        return codes[0] if isinstance(texts, str) else codes

    def similarity(
        self, first: Sequence[str] | str | np.ndarray | Tensor, second: Sequence[str] | str | np.ndarray | Tensor
    ) -> np.ndarray:
        """How alike each of the first is to each of the second, from 0 to 1, fp64 [N, M], by the model's own metric.

            model.similarity("a cold soup", ["my soup was cold", "profit rose"])

        Sentences or codes, one or several; the numbers are the `similarity` of hits. Raises `UserError` as `encode`.
        """
        codes, others = (np.atleast_2d(self._as_codes(each)) for each in (first, second))
        return similarity(self.use.metric, distances(self.use.metric, codes, others))

    def _as_codes(self, given: Any) -> np.ndarray:
        if isinstance(given, np.ndarray | Tensor):
            return self.checked_codes(given).numpy()
        return self.encode(given)

    @torch.no_grad()
    def informative(self, texts: Sequence[str]) -> np.ndarray:
        """cMIM's informative embeddings: the mean of the decoder's states over each sentence, fp32 [N, H].

        The decoder reads the sentence itself (teacher forcing), from the code that `encode` gives. H is the width of
        its states; a superposition's are embeddings of words. They cannot be decoded. Raises `UserError` as `encode`.
        Livne 2025, arXiv 2509.21511.
        """
        ids = self.token_ids(texts)
        z = self.posterior_of_ids(ids).mean
        states = torch.empty(len(ids), self.autoencoder.decoder.output_dim)
        for batch in self._batches(ids):
            rows = batch.rows.cpu()
            states[rows] = self.autoencoder.mean_state(batch, z[rows].to(batch.rows.device)).cpu()
        return states.numpy()

    def posterior(
        self,
        texts: Sequence[str],
        *,
        allow_unknown: bool = True,
        batch_size: int | None = None,
        show_progress: bool = False,
    ) -> DiagonalGaussian:
        """q(z|x) for each sentence, on the CPU: mean and log variance, fp32 [N, D] each."""
        ids = self.token_ids(texts, allow_unknown=allow_unknown)
        return self.posterior_of_ids(ids, batch_size=batch_size, show_progress=show_progress)

    @torch.no_grad()
    def posterior_of_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        batch_size: int | None = None,
        show_progress: bool = False,
    ) -> DiagonalGaussian:
        """q(z|x) for sentences of token ids, in their order, on the CPU; options as of `encode`.

        Of sentences longer than the model takes, as a prepared corpus may have them, the beginning is encoded.
        """
        limit = self.autoencoder.args.max_length
        if any(len(sentence) > limit for sentence in ids):
            ids = [sentence[:limit] for sentence in ids]
        mean = torch.empty(len(ids), self.latent_dim, dtype=torch.float32)
        log_variance = torch.empty_like(mean)
        worth_a_table = sum(map(len, ids)) > self.autoencoder.input_size
        word_gates = self.autoencoder.word_gates() if worth_a_table else None
        with sentences_bar("encoding", total=len(ids)) if show_progress else nullcontext(_unseen) as advance:
            for batch in self._batches(ids, batch_size):
                posterior = self.autoencoder.posterior(batch, word_gates=word_gates)
                mean[batch.rows.cpu()] = posterior.mean.cpu()
                log_variance[batch.rows.cpu()] = posterior.log_variance.cpu()
                advance(len(batch.rows))
        return DiagonalGaussian(mean=mean, log_variance=log_variance)

    def _batches(self, ids: Sequence[Sequence[int] | np.ndarray], batch_size: int | None = None) -> Iterator[Batch]:
        """All sentences, longest first; `rows` are their places among `ids`."""
        if batch_size is not None:
            check_whole("batch_size", batch_size)
        lengths = np.array([len(sentence) for sentence in ids])
        for group in evaluation_order(lengths, tokens_per_batch=_TOKENS_PER_BATCH):
            size = batch_size or len(group)
            for rows in (group[start : start + size] for start in range(0, len(group), size)):
                yield collate([ids[i] for i in rows], rows).to(self.autoencoder.device)

    def decode(
        self,
        codes: np.ndarray | Tensor,
        *,
        literal: float = 1.0,
        candidates: int | None = None,
        sample: bool = False,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int = 0,
        max_length: int = DECODED_LENGTH,
        allow_unknown: bool = False,
        distinct: bool = False,
    ) -> list[str]:
        """The sentence of each code [N, D], or of one [D]: the likeliest word at each step, or with `sample` a draw.

        A superposition's sentence is encoded again, and where it has another code, one that is nearer to the code is
        looked for (`smim.model.nearest`).

            model.decode(model.encode(["the company said profit rose"]), literal=0.0)

        Codes are an array or a tensor of any type of numbers. `literal`: 1 gives the sentence word for word, 0 another
        one of the same meaning. Of several `candidates`, which are drawn, the one whose own code is most like the code
        is kept, by the cosine of their meaning parts. Words are drawn at a `temperature`, among the likeliest that
        together have the probability `top_p`. These three are 1 unless given, and below literal 1 those of `use`. At
        most `max_length` tokens are decoded, and unless `allow_unknown` none that is `<unk>`. `distinct`: no candidate
        is kept for two codes, as long as there are others.

        Raises `UserError` for codes of a wrong shape or NaN, and `Unsupported` for a `literal` that the model has not.
        """
        z = self.checked_codes(codes)
        check_whole("max_length", max_length)
        options: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "allow_unknown": allow_unknown}
        how = self.writing(literal, candidates, sample=sample, distinct=distinct, **options)
        ids = self.ids_of_codes(z, how, lambda draw: noise.uniform(seed, range(len(z)), draw, max_length), max_length)
        return [self.tokenizer.decode(sentence) for sentence in ids]

    def writing(self, literal: float = 1.0, candidates: int | None = None, **options: Any) -> Writing:
        """What these arguments of `decode` come to; raises as it does."""
        how = self.use.literal.writing(literal, candidates, **options)
        self.autoencoder.check_literal(how.literal)
        return how

    def ids_of_codes(
        self,
        z: Tensor,
        how: Writing,
        uniform: Callable[[int], Tensor],
        max_length: int = DECODED_LENGTH,
        *,
        calls: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """The token ids of each code's sentence [N, D]; `uniform` gives the random numbers [N, T] of a draw.

        `calls`: how many of the codes each call of `decode` brought, of which sentences are `distinct`; else one did.
        """
        options = how.options
        if how.candidates == 1 or not len(z):
            ids = decode_ids(self.autoencoder, z, max_length, uniform=uniform(0) if how.sample else None, **options)
            exact = how.literal == 1 and not how.sample and self.autoencoder.words_of_sum is not None
            return self._nearest(ids, z, how, max_length) if exact else ids
        draws = torch.cat([uniform(draw) for draw in range(how.candidates)])
        longest = min(max_length, self.autoencoder.args.max_length)
        drawn = decode_ids(self.autoencoder, z.repeat(how.candidates, 1), longest, uniform=draws, **options)
        meant_CNM = self.autoencoder.meaning(self.posterior_of_ids(drawn).mean).unflatten(0, (how.candidates, len(z)))
        order_CN = F.cosine_similarity(meant_CNM, self.autoencoder.meaning(z), dim=-1).argsort(0, descending=True)
        best_first = [[drawn[len(z) * draw + row] for draw in order_CN[:, row].tolist()] for row in range(len(z))]
        if not how.distinct:
            return [candidates[0] for candidates in best_first]
        rows = iter(best_first)
        return [ids for size in calls or [len(z)] for ids in self._distinct(islice(rows, size))]

    def _distinct(self, best_first: Iterable[list[list[int]]]) -> Iterator[list[int]]:
        """Of each list of sentences the first whose letters and digits none before has, or its first."""
        given: set[str] = set()
        for sentences in best_first:
            letters = ["".join(filter(str.isalnum, self.tokenizer.decode(ids).casefold())) for ids in sentences]
            chosen = next((i for i, each in enumerate(letters) if each not in given), 0)
            given.add(letters[chosen])
            yield sentences[chosen]

    def _nearest(self, ids: list[list[int]], z: Tensor, how: Writing, max_length: int) -> list[list[int]]:
        """The same sentences, but where one has not the code and another is found that is nearer to it."""
        left = z.new_ones(len(ids))
        encodable = [row for row, own in enumerate(ids) if 0 < len(own) <= self.autoencoder.args.max_length]
        encoded = self.posterior_of_ids([ids[row] for row in encodable]).mean
        left[encodable] = share_left(self.autoencoder, z[encodable], encoded)
        wrong = (left > EXACT).nonzero()[:, 0].tolist()
        longest = min(max_length, self.autoencoder.args.max_length)
        found, found_left = nearest_ids(self.autoencoder, z[wrong], longest, allow_unknown=how.allow_unknown)
        nearer = {row: found[i] for i, row in enumerate(wrong) if found_left[i] < left[row]}
        return [nearer.get(row, own) for row, own in enumerate(ids)]

    def reconstruct(
        self,
        texts: Sequence[str] | str,
        *,
        literal: float = 1.0,
        candidates: int | None = None,
        sample: bool = False,
        seed: int = 0,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Each sentence encoded and decoded: from its mean code, or with `sample` from draws of code and words.

        `literal`, `candidates` and `allow_unknown`: as of `decode`.
        """
        posterior = self.posterior([texts] if isinstance(texts, str) else texts, allow_unknown=False)
        z = posterior.mean
        if sample:
            z = self.draw(posterior, noise.normal(seed, range(len(z)), 0, self.latent_dim))
        how: dict[str, Any] = {"literal": literal, "candidates": candidates, "allow_unknown": allow_unknown}
        return self.decode(z, **how, sample=sample, seed=seed)

    def interpolation(self, first: str, second: str, *, steps: int = 5) -> np.ndarray:
        """Codes evenly spaced from the one sentence's to the other's, both included, fp32 [steps, D]: `combined`."""
        check_whole("steps", steps, least=2)
        return self.line(*self.encode([first, second], allow_unknown=False), steps=steps)

    def interpolate(
        self,
        first: str,
        second: str,
        *,
        steps: int = 5,
        literal: float | None = None,
        seed: int = 0,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Sentences decoded at `steps` codes evenly spaced from the one's to the other's, both included.

        The ends are decoded word for word, what is between them as of `decode`, by default at the model's own literal.
        """
        codes = self.interpolation(first, second, steps=steps)
        literal = self.use.literal.interpolate if literal is None else literal
        start, end = self.decode(codes[[0, -1]], allow_unknown=allow_unknown)
        return [start, *self.decode(codes[1:-1], literal=literal, seed=seed, allow_unknown=allow_unknown), end]

    def arithmetic(self, plus: Sequence[str], minus: Sequence[str] = ()) -> np.ndarray:
        """The sum of the codes of `plus` less those of `minus`, fp32 [D]: a - b + c is `arithmetic([a, c], [b])`.

        See `combined` for codes with a meaning part.
        """
        check_sentences(plus)
        check_sentences(minus)
        if not len(plus):
            raise UserError("arithmetic needs at least one sentence to add")
        weights = [1.0] * len(plus) + [-1.0] * len(minus)
        return self.combined(weights, self.encode([*plus, *minus], allow_unknown=False))

    def perturb(
        self,
        text: str,
        *,
        num: int = 5,
        scale: float | None = None,
        literal: float | None = None,
        seed: int = 0,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Sentences decoded near a sentence's code, `scale` posterior standard deviations away.

        Draws from N(mean, (scale sigma)^2), as in appendix E.1 of the thesis with a scale of 10. `literal` and
        `allow_unknown`: as of `decode`. Scale and literal are the model's own unless given. Where the sentences are the
        best of several candidates, they differ.
        """
        check_whole("num", num)
        scale = self.use.perturb_scale if scale is None else scale
        check_size("scale", scale)
        posterior = self.posterior([text], allow_unknown=False)
        draws = noise.normal(seed, range(num), 0, self.latent_dim)
        literal = self.use.literal.perturb if literal is None else literal
        codes = posterior.mean + scale * posterior.standard_deviation * draws
        return self.decode(codes, literal=literal, seed=seed, allow_unknown=allow_unknown, distinct=True)

    def sample(
        self,
        num: int = 5,
        *,
        standard_deviation: float | None = None,
        prior: bool = False,
        chain_steps: int | None = None,
        literal: float | None = None,
        seed: int = 0,
        allow_unknown: bool = False,
    ) -> list[str]:
        """Sentences decoded from N(0, standard_deviation^2 I), 0.1 in appendix E.3 of the thesis, or from `prior` p(z).

        With `chain_steps`, the last sentences of Markov chains of so many that begin at such codes: see `markov_chain`;
        0: without. `literal` and `allow_unknown`: as of `decode`. What is not given is the model's own.
        """
        check_whole("num", num)
        codes = self.draw_codes(num, self.use.sample.spread(standard_deviation, prior=prior), seed=seed)
        literal = self.use.literal.sample if literal is None else literal
        chain_steps = self.use.sample.chain_steps if chain_steps is None else chain_steps
        how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
        if chain_steps == 0:
            return self.decode(codes, sample=True, distinct=True, **how)
        return [chain[-1] for chain in self.markov_chain(codes, steps=chain_steps, **how)]

    def draw_codes(self, num: int, standard_deviation: float | None, *, seed: int) -> Tensor:
        """The codes that `sample` decodes, fp32 [num, D], on the CPU."""
        if standard_deviation is not None:
            return standard_deviation * noise.normal(seed, range(num), 0, self.latent_dim)
        noise.check_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.autoencoder.prior.sample(num).cpu()

    def markov_chain(
        self,
        codes: np.ndarray | Tensor,
        *,
        steps: int = 10,
        literal: float = 1.0,
        seed: int = 0,
        allow_unknown: bool = False,
    ) -> list[list[str]]:
        """For each code [N, D] the `steps` sentences of a chain that begins with it: x ~ p(x|z), z ~ q(z|x), and so on.

        Samples of a probabilistic autoencoder, whose codes do not follow the prior: with the best decoder for its
        encoder, the chain comes to the distribution of the training sentences (eq. 3 of InfoVAE, Zhao et al. 2017).

            [chain] = model.markov_chain(model.encode(["the company said profit rose"]), steps=5)

        Sentences are cut at 100 tokens, or at the model's own limit. Options and errors: as of `decode`.
        """
        check_whole("steps", steps)
        z, how = self.checked_codes(codes), self.writing(literal, 1, sample=True, allow_unknown=allow_unknown)
        max_length = min(DECODED_LENGTH, self.autoencoder.args.max_length)
        chains: list[list[str]] = [[] for _ in z]
        for step in range(steps):
            uniform = noise.uniform(seed, range(len(z)), step, max_length)
            decoded = decode_ids(self.autoencoder, z, max_length, uniform=uniform, **how.options)
            for chain, ids in zip(chains, decoded, strict=True):
                chain.append(self.tokenizer.decode(ids))
            z = self.draw(self.posterior_of_ids(decoded), noise.normal(seed, range(len(z)), step + 1, self.latent_dim))
        return chains

    def answer(self, question: str, *, num_words: int = 10) -> str:
        """An answer decoded from the code of the question and `num_words` unknown words (section 7.6).

        Greedy; what follows the first "?" is the answer. Raises `Unsupported` unless `use` says that the
        model was trained on questions with answers.
        """
        check_whole("num_words", num_words)
        check_sentences([question])
        if not self.use.answers:
            raise Unsupported(
                "this model was not trained on questions with answers, so it answers none; one that is says so by "
                "use.answers=true at its training, or in the section use of its config.json"
            )
        [ids] = self.token_ids([question.rstrip(" ?")], allow_unknown=False)
        ids = [*ids, *self.tokenizer.encode("?"), *[UNK_ID] * num_words]
        z = self.posterior_of_ids([ids]).mean
        [decoded] = decode_ids(self.autoencoder, z, DECODED_LENGTH + len(ids))
        _, _, answer = self.tokenizer.decode(decoded).partition("?")
        return answer.strip()

    def token_ids(self, texts: Sequence[str], *, allow_unknown: bool = True) -> list[list[int]]:
        """The vocabulary ids of each sentence; raises `UserError` for one that does not fit."""
        return self.fitted(texts, allow_unknown=allow_unknown, too_long="error", empty="error").ids

    def tell_cut(self, lengths_N: np.ndarray, name: str, *, too_long: str = "truncate") -> None:
        """Warns of a prepared corpus's sentences, by their numbers of tokens, that are cut when they are encoded.

        Raises `UserError` that names the first where `too_long` is `error`, and for another policy than these two.
        """
        limit = self.autoencoder.args.max_length
        rows = np.flatnonzero(lengths_N > limit).tolist()
        if too_long not in ("truncate", "error"):
            raise UserError(f"too_long is {too_long!r}; of a prepared corpus it can be truncate or error")
        if rows and too_long == "error":
            raise UserError(f"{name}, row {rows[0]}, has {lengths_N[rows[0]]} tokens, this model takes at most {limit}")
        if rows:
            what = (
                f"{len(rows):,} of {len(lengths_N):,} sentences of {name} are cut after this model's {limit:,} tokens"
            )
            warnings.warn(TextsChanged(what, rows), stacklevel=3)

    def fitted(
        self,
        texts: Sequence[Any],
        *,
        allow_unknown: bool = True,
        too_long: str = "truncate",
        empty: str = "error",
        split: str = "none",
        tell: bool = True,
    ) -> Fitted:
        """The token ids of texts, as far as they fit this model: see `smim.text.fitting`.

        Unless `allow_unknown`, a text of which the vocabulary holds no word is an empty one. `split`: whether texts
        become sentences, `auto`, `sentences` or `none` (`smim.text.sentences`). `tell`: with the warnings.
        Raises `UserError` for what are no texts, `RowError` for one that does not fit where that is an error.
        """
        check_sentences(texts, missing=True)

        def refused(text: str, ids: list[int]) -> str | None:
            if allow_unknown or any(i != UNK_ID for i in ids):
                return None
            words = f"{self.tokenizer.vocabulary_size:,} words"
            return f"this model's vocabulary of {words} holds no word of {shown(text)}"

        limit, how = self.autoencoder.args.max_length, {"too_long": too_long, "empty": empty, "split": split}
        return fit(texts, self.tokenizer.encode, limit, refused=refused, tell=tell, **how)
