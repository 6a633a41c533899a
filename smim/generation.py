"""The user's view of a trained model: encode, decode, interpolate, perturb, sample, answer.

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
from smim.errors import RowError, Unsupported, UserError, check_seed, check_size, check_whole
from smim.model import noise
from smim.model.autoencoder import SentenceAutoencoder, WordTable
from smim.model.beam import beam_ids
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
_SMALL_BATCH = 8  # sentences; smaller batches cost more than padding
_WORTH_A_TABLE = 128  # tokens; a table of the words of fewer takes longer than it saves
_SMALLEST = 1e-6
DECODED_LENGTH = 100


def load(directory: Path | str, *, device: str | None = None) -> "SentenceModel":
    """Load a trained model, by default onto the GPU if there is one.

        model = smim.load("runs/ptb_smim_512/model")
        model = smim.load("english-small")  # comes with the package

    Raises `UserError` if the directory is not a model or is damaged.
    """
    autoencoder, tokenizer, config = load_model(directory)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return SentenceModel(autoencoder.to(target), tokenizer, config, hash=hash_of(directory), directory=find(directory))


def check_sentences(texts: Any, *, missing: bool = False) -> None:
    """Raise `UserError` for anything but a list of strings, and for strings that UTF-8 cannot encode.

    With `missing`, the list may also hold None, NaN and similar values.
    """
    if isinstance(texts, str):
        raise UserError("the sentences must be in a list, not one string; write [text]")
    if not isinstance(texts, Collection) or not all(
        isinstance(text, str) or (missing and is_missing(text)) for text in texts
    ):
        raise UserError(f"the sentences must be in a list of strings, not {str(texts)[:60]}")
    for row, text in enumerate(texts):
        try:
            if isinstance(text, str):
                text.encode()
        except UnicodeEncodeError:
            what = f"the text {shown(text)} contains half of a surrogate pair, which is not valid text"
            raise RowError(what, row, numbered=False) from None


def _unseen(number: int) -> None:
    """Ignore progress."""


class TrainedModel:
    """A trained model of any kind of data, with its latent space. `hash` identifies it: that of its directory."""

    autoencoder: Any
    config: dict[str, Any]
    hash: str

    @property
    def latent_dim(self) -> int:
        return self.autoencoder.args.latent_dim

    @property
    def deterministic(self) -> bool:
        """True for an autoencoder. Its variance was never trained, so its code is the mean."""
        return is_deterministic(self.config)

    @property
    def without_code(self) -> bool:
        """True for a language model, whose only code is 0."""
        return self.config["training"]["objective"] == "language_model"

    def checked_codes(self, codes: np.ndarray | Tensor) -> Tensor:
        """Codes [N, D], or one [D], of any numeric type, as fp32 [N, D]; raises `UserError` for others and NaN."""
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
        """The model's default settings for its methods."""
        return use_of(self.config)

    @property
    def has_meaning_part(self) -> bool:
        """Whether codes have a meaning part, which `literal` below 1 and indexes of meaning parts need."""
        return self.autoencoder.meaning_dim < self.latent_dim

    def dimension_of(self, part: str | None) -> int:
        """The number of leading dimensions of `part`: those of the meaning part, or all for None."""
        return self.autoencoder.meaning_dim if part == "meaning" else self.latent_dim

    def combined(self, weights: Sequence[float], codes_ND: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """The weighted sum of codes, fp32 [D], for interpolation and for sums and differences.

        A meaning part is summed differently. Its direction is the meaning, and its length grows with the sentence.
        The directions are summed, and the result gets the weighted mean of the parts' lengths.
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
        """Evenly spaced codes from `start_D` to `end_D`, both included, fp32 [steps, D]."""
        between = [self.combined([1 - t, t], [start_D, end_D]) for t in np.linspace(0, 1, steps)[1:-1]]
        return np.stack([start_D, *between, end_D])

    def draw(self, posterior: DiagonalGaussian, noise: Tensor) -> Tensor:
        """Draw z ~ q(z|x) with standard normal `noise` [N, D]. A deterministic model gives the mean."""
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
        """Encode sentences: the mean of q(z|x), fp32 [N, D] for N texts, [D] for one string.

            model.encode(["the company said profit rose"]).shape  # (1, 512)

        `too_long`: `truncate` cuts texts at the model's limit, `skip` returns NaN for them, `error` refuses them.
        `empty`: `error` refuses texts without a word, None and NaN; `skip` returns NaN for them. Truncating and
        skipping warn. With `allow_unknown=False`, a text without any word of the vocabulary counts as empty.
        `normalize`: scale codes to length one. `batch_size`: the most sentences in a batch; a batch has at most 8,192
        tokens. `show_progress`: show a progress bar on a terminal.

        Raises `UserError` for anything but texts, and for texts that the policies refuse.
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
        """Similarity of each first to each second sentence, from 0 to 1, fp64 [N, M], by the model's metric.

            model.similarity("a cold soup", ["my soup was cold", "profit rose"])

        Takes sentences or codes, one or several. Hits have the same `similarity`. Raises `UserError` as `encode` does.
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

        The decoder starts from the code of `encode` and reads the sentence itself (teacher forcing). H is the width of
        its states, or of the word embeddings in a superposition. These embeddings cannot be decoded. Raises `UserError`
        as `encode` does. Source: Livne 2025, arXiv 2509.21511.
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
        """q(z|x) of each sentence, on the CPU: mean and log variance, each fp32 [N, D]."""
        ids = self.token_ids(texts, allow_unknown=allow_unknown)
        return self.posterior_of_ids(ids, batch_size=batch_size, show_progress=show_progress)

    @torch.no_grad()
    def posterior_of_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        batch_size: int | None = None,
        show_progress: bool = False,
        word_table: WordTable | None = None,
    ) -> DiagonalGaussian:
        """q(z|x) of sentences given as token ids, in their order, on the CPU. Options are those of `encode`.

        A prepared corpus may hold sentences longer than the model's limit. Only their beginning is encoded.
        `word_table`: a lookup table of all words; None: make one of the sentences' words if it saves time.
        """
        limit = self.autoencoder.args.max_length
        if any(len(sentence) > limit for sentence in ids):
            ids = [sentence[:limit] for sentence in ids]
        mean = torch.empty(len(ids), self.latent_dim, dtype=torch.float32)
        log_variance = torch.empty_like(mean)
        if word_table is None and sum(map(len, ids)) > _WORTH_A_TABLE:
            words = np.concatenate(ids, dtype=np.int64, casting="unsafe")  # an empty list is fp64
            word_table = self.autoencoder.word_table(torch.from_numpy(words), max(map(len, ids)))
        with sentences_bar("encoding", total=len(ids)) if show_progress else nullcontext(_unseen) as advance:
            for batch in self._batches(ids, batch_size):
                posterior = self.autoencoder.posterior(batch, word_table=word_table)
                mean[batch.rows.cpu()] = posterior.mean.cpu()
                log_variance[batch.rows.cpu()] = posterior.log_variance.cpu()
                advance(len(batch.rows))
        return DiagonalGaussian(mean=mean, log_variance=log_variance)

    def _batches(self, ids: Sequence[Sequence[int] | np.ndarray], batch_size: int | None = None) -> Iterator[Batch]:
        """Batches of all sentences, longest first. `rows` are positions in `ids`.

        Unless `batch_size` is given, sentences are padded to at most twice their length, but for small batches.
        """
        if batch_size is not None:
            check_whole("batch_size", batch_size)
        lengths = np.array([len(sentence) for sentence in ids])
        device = self.autoencoder.device
        tokens = self.autoencoder.encoder.tokens_on_cpu if device.type == "cpu" else _TOKENS_PER_BATCH
        for group in evaluation_order(lengths, tokens_per_batch=tokens):
            start = 0
            while start < len(group):
                alike = int(np.count_nonzero(2 * lengths[group[start:]] >= lengths[group[start]]))
                size = batch_size or max(_SMALL_BATCH, alike)
                rows = group[start : start + size]
                start += size
                yield collate([ids[i] for i in rows], rows).to(device)

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
        beam: int = 1,
    ) -> list[str]:
        """Decode codes [N, D], or one [D], to sentences: greedily, or with `sample` by drawing words.

            model.decode(model.encode(["the company said profit rose"]), literal=0.0)

        Codes may be an array or a tensor of any numeric type. `literal`: 1 reproduces the sentence, 0 writes another
        one of the same meaning. `candidates`: draw so many sentences for each code and keep the one whose own code is
        most similar (cosine of the meaning parts). `temperature` and `top_p` control how words are drawn: from the
        likeliest words that together have probability `top_p`. These three default to 1, and below literal 1 to the
        model's `use`. `max_length`: the most tokens. `allow_unknown`: allow `<unk>`. `distinct`: give no two codes the
        same sentence while other candidates remain. `beam`: find likelier sentences by beam search with so many
        hypotheses. It draws no candidates. It takes `beam` times as long as greedy decoding, or longer.

        A superposition encodes its sentence again. If the codes differ, it searches for a sentence with a nearer code
        (`smim.model.nearest`). Raises `UserError` for codes of a wrong shape or with NaN, and `Unsupported` for a
        `literal` that the model does not support.
        """
        z = self.checked_codes(codes)
        check_whole("max_length", max_length)
        options: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "allow_unknown": allow_unknown}
        how = self.writing(literal, candidates, sample=sample, distinct=distinct, beam=beam, **options)
        ids = self.ids_of_codes(z, how, lambda draw: noise.uniform(seed, range(len(z)), draw, max_length), max_length)
        return [self.tokenizer.decode(sentence) for sentence in ids]

    def writing(self, literal: float = 1.0, candidates: int | None = None, **options: Any) -> Writing:
        """Resolve the arguments of `decode` to settings; raises as `decode` does."""
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

        `calls`: the number of codes in each call of `decode`, within which `distinct` holds; None: one call.
        """
        options = how.options
        if how.candidates == 1 or not len(z):
            if how.beam > 1:
                known: dict[str, Any] = {"allow_unknown": how.allow_unknown, "literal": how.literal}
                ids = beam_ids(self.autoencoder, z, max_length, how.beam, **known)
            else:
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
        """From each list, the first sentence whose letters and digits are new; the first sentence if none is."""
        given: set[str] = set()
        for sentences in best_first:
            letters = ["".join(filter(str.isalnum, self.tokenizer.decode(ids).casefold())) for ids in sentences]
            chosen = next((i for i, each in enumerate(letters) if each not in given), 0)
            given.add(letters[chosen])
            yield sentences[chosen]

    def _nearest(self, ids: list[list[int]], z: Tensor, how: Writing, max_length: int) -> list[list[int]]:
        """The same sentences, but each wrong one is replaced if search finds a sentence nearer to the code."""
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
        beam: int = 1,
    ) -> list[str]:
        """Encode and decode each sentence, from its mean code, or with `sample` from drawn codes and words.

        `literal`, `candidates`, `allow_unknown` and `beam` are those of `decode`.
        """
        posterior = self.posterior([texts] if isinstance(texts, str) else texts, allow_unknown=False)
        z = posterior.mean
        if sample:
            z = self.draw(posterior, noise.normal(seed, range(len(z)), 0, self.latent_dim))
        how: dict[str, Any] = {"literal": literal, "candidates": candidates, "allow_unknown": allow_unknown}
        return self.decode(z, **how, sample=sample, seed=seed, beam=beam)

    def interpolation(self, first: str, second: str, *, steps: int = 5) -> np.ndarray:
        """Evenly spaced codes between two sentences (see `combined`), both included, fp32 [steps, D]."""
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
        """Decode `steps` evenly spaced codes from one sentence to another, both included.

        The ends are decoded word for word. The rest uses `literal`, as in `decode`; None means the model's default.
        """
        codes = self.interpolation(first, second, steps=steps)
        literal = self.use.literal.interpolate if literal is None else literal
        start, end = self.decode(codes[[0, -1]], allow_unknown=allow_unknown)
        return [start, *self.decode(codes[1:-1], literal=literal, seed=seed, allow_unknown=allow_unknown), end]

    def arithmetic(self, plus: Sequence[str], minus: Sequence[str] = ()) -> np.ndarray:
        """Add the codes of `plus` and subtract those of `minus`, fp32 [D]: a - b + c is `arithmetic([a, c], [b])`.

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
        """Decode codes near a sentence's code, `scale` posterior standard deviations away.

        Codes are drawn from N(mean, (scale sigma)^2), as in appendix E.1 of the thesis with a scale of 10. `literal`
        and `allow_unknown` are those of `decode`. `scale` and `literal` default to the model's own. If several
        candidates are drawn for each code, the sentences differ where the candidates allow it.
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
        """Decode codes drawn from N(0, standard_deviation^2 I), or from the model's `prior` p(z).

        Appendix E.3 of the thesis uses a standard deviation of 0.1. `chain_steps`: start a Markov chain at each code
        and return its last sentence (see `markov_chain`); 0: no chain. `literal` and `allow_unknown` are those of
        `decode`. Arguments that are None, and `prior` if false, take the model's own values.
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
        """The codes that `sample` decodes, fp32 [num, D], on the CPU. No standard deviation: the prior."""
        if standard_deviation is not None:
            return standard_deviation * noise.normal(seed, range(num), 0, self.latent_dim)
        check_seed(seed)
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
        """For each code [N, D], the `steps` sentences of the chain x ~ p(x|z), z ~ q(z|x), and so on.

        Use it to sample from a probabilistic autoencoder, whose codes do not follow the prior. With the optimal decoder
        for its encoder, the chain converges to the distribution of the training sentences (eq. 3 of InfoVAE, Zhao et
        al. 2017).

            [chain] = model.markov_chain(model.encode(["the company said profit rose"]), steps=5)

        Sentences end at 100 tokens, or at the model's limit. Options and errors are those of `decode`.
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
        """Decode an answer from the code of the question and `num_words` unknown words (section 7.6).

        Decoding is greedy; the text after the first "?" is the answer. Raises `Unsupported` unless `use` says that
        the model was trained on questions with answers.
        """
        check_whole("num_words", num_words)
        check_sentences([question])
        if not self.use.answers:
            raise Unsupported(
                "this model was not trained on questions with answers, so it cannot answer them. For a model that was, "
                "set use.answers=true in training, or in the section use of its config.json"
            )
        [ids] = self.token_ids([question.rstrip(" ?")], allow_unknown=False)
        ids = [*ids, *self.tokenizer.encode("?"), *[UNK_ID] * num_words]
        z = self.posterior_of_ids([ids]).mean
        [decoded] = decode_ids(self.autoencoder, z, DECODED_LENGTH + len(ids))
        _, _, answer = self.tokenizer.decode(decoded).partition("?")
        return answer.strip()

    def token_ids(self, texts: Sequence[str], *, allow_unknown: bool = True) -> list[list[int]]:
        """The vocabulary ids of each sentence; raises `UserError` for a sentence that does not fit."""
        return self.fitted(texts, allow_unknown=allow_unknown, too_long="error", empty="error").ids

    def tell_cut(self, lengths_N: np.ndarray, name: str, *, too_long: str = "truncate") -> None:
        """Warn about sentences of a prepared corpus that are cut; `lengths_N` are their numbers of tokens.

        With `too_long="error"`, raises `UserError` that names the first. Refuses other policies than these two.
        """
        limit = self.autoencoder.args.max_length
        rows = np.flatnonzero(lengths_N > limit).tolist()
        if too_long not in ("truncate", "error"):
            raise UserError(f"too_long is {too_long!r}, but for a prepared corpus it must be truncate or error")
        if rows and too_long == "error":
            raise UserError(
                f"{name}, row {rows[0]}, has {lengths_N[rows[0]]} tokens, but this model takes at most {limit}"
            )
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
        """The token ids of texts that fit this model: see `smim.text.fitting`.

        With `allow_unknown=False`, a text without any word of the vocabulary counts as empty. `split`: how texts are
        split into sentences: `auto`, `sentences` or `none` (`smim.text.sentences`). `tell`: whether to warn.
        Raises `UserError` for anything but texts, and `RowError` for a text that a policy refuses.
        """
        check_sentences(texts, missing=True)

        def refused(text: str, ids: list[int]) -> str | None:
            if allow_unknown or any(i != UNK_ID for i in ids):
                return None
            words = f"{self.tokenizer.vocabulary_size:,} words"
            return f"this model's vocabulary of {words} has no word of {shown(text)}"

        limit, how = self.autoencoder.args.max_length, {"too_long": too_long, "empty": empty, "split": split}
        return fit(texts, self.tokenizer.encode, limit, refused=refused, tell=tell, **how)
