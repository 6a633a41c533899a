"""Measure how many sentences are decoded exactly from their codes, and the speed of decoding.

    python benchmarks/decoding.py share english-small tatoeba-heldout.txt
    python benchmarks/decoding.py checked english-small stsb-dev.tsv.gz
    python benchmarks/decoding.py speed
    python benchmarks/decoding.py beams runs/ptb_smim_512/model data/ptb

`share` works with any model, and compares words as the model's tokenizer splits them. `checked` needs a superposition.
If greedy decoding does not reproduce a sentence, it searches with a beam of 4, 8 and 16 hypotheses. It also measures
the time for codes midway between two sentences. No sentence has such a code, so each search fails.

`speed` compares decoding with a plain loop, for decoders with random weights and PTB's vocabulary. The plain loop reads
the whole beginning again at each step if the decoder is a transformer, and decodes a batch until its longest sentence
ends. Words are drawn, and a sentence ends with probability 1/22 after each word. `beams` needs a trained model.
"""

import math
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from nltk.translate.bleu_score import sentence_bleu

import smim
from benchmarks.common import estimate, main, rates, ratio
from smim.evaluation.semantic_sets import read_sets
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.model.autoencoder import SentenceArgs, SentenceAutoencoder
from smim.model.decoding import decode_ids
from smim.model.nearest import nearest_ids
from smim.model.registry import DECODERS
from smim.text.corpus import Corpus
from smim.text.tokenizer import EOS_ID, PAD_ID, SOS_ID, UNK_ID


def share(
    model: Path,
    file: Annotated[Path, typer.Argument(help="A file with one sentence per line.")],
    count: Annotated[int, typer.Option(help="Number of sentences, drawn at random.")] = 1000,
) -> None:
    """Measure the share of a file's sentences that are decoded exactly from their codes, token by token."""
    opened, lines = smim.load(model), file.read_text(encoding="utf-8").splitlines()
    texts = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))[:count]]
    again = opened.reconstruct(texts, allow_unknown=True)
    same = [opened.tokenizer.encode(back) == own for back, own in zip(again, opened.token_ids(texts), strict=True)]
    print(f"{np.mean(same):.3f} of {len(texts)} come back")


def checked(
    model: Path,
    sets: Annotated[list[Path], typer.Argument(help="Judged sets of meaning, whose dev sentences are decoded.")],
    count: Annotated[int, typer.Option(help="Number of distinct sentences, drawn at random.")] = 500,
    beams: Annotated[list[int], typer.Option(help="Number of hypotheses; may be repeated.")] = [4, 8, 16],  # noqa: B006
) -> None:
    opened = smim.load(model)
    found = list(dict.fromkeys(text for each in read_sets(sets, "dev") for text in each.texts))
    texts = [found[i] for i in np.random.default_rng(0).permutation(len(found))[:count]]
    ids = [list(sentence) for sentence in opened.token_ids(texts)]
    encoded = opened.encode(texts)
    codes = torch.as_tensor(encoded)
    started = time.perf_counter()
    likeliest = decode_ids(opened.autoencoder, codes, DECODED_LENGTH)
    seconds = time.perf_counter() - started
    wrong = [i for i, own in enumerate(ids) if likeliest[i] != own]
    share = 1 - len(wrong) / len(ids)
    print(f"likeliest words   {share:7.1%} of {len(ids)} come back  {1000 * seconds / len(ids):7.1f} ms a sentence")
    for beam in beams:
        again, seconds = _looked_for(opened, codes[wrong], beam)
        right = share + sum(again[row] == ids[i] for row, i in enumerate(wrong)) / len(ids)
        print(f"beam of {beam:<3}       {right:7.1%}  {1000 * seconds / len(wrong):7.1f} ms a sentence of {len(wrong)}")
    midway = torch.as_tensor(
        np.stack([opened.combined([0.5, 0.5], [encoded[i], encoded[i - 1]]) for i in range(min(64, len(codes)))])
    )
    for beam in beams:
        _, seconds = _looked_for(opened, midway, beam)
        print(f"beam of {beam:<3}  midway between two, in vain  {1000 * seconds / len(midway):7.1f} ms a code")


def speed(
    decoder: Annotated[list[str], typer.Option(help="gru or transformer; may be repeated.")] = ["gru", "transformer"],  # noqa: B006
    sentences: int = 256,
    batch_size: Annotated[int, typer.Option(help="Sentences in a batch of the plain loop.")] = 128,
    max_length: int = 50,
    rounds: int = 3,
    vocabulary_size: int = 9877,
) -> None:
    """Measure tokens per second of decoding relative to the plain loop."""
    uniform = torch.rand(sentences, max_length, generator=torch.Generator().manual_seed(0))
    for kind in decoder:
        torch.manual_seed(0)
        args = SentenceArgs(decoder=DECODERS[kind](name=kind))
        model = SentenceAutoencoder(args, vocabulary_size=vocabulary_size).eval()
        z = torch.randn(sentences, args.latent_dim)
        with torch.no_grad():
            logits, _ = model.next_token(torch.full((len(z),), SOS_ID), model.start(z))
            model.to_vocabulary.bias[EOS_ID] += (logits.logsumexp(-1) - logits[:, EOS_ID]).mean() - math.log(21)
        print(f"{kind}, plain loop in batches of {batch_size}")
        ways = {
            "plain": partial(_plainly, model, z, batch_size, max_length, has_state=kind == "gru"),
            "ours": partial(_ours, model, z, uniform),
        }
        ratio(rates(ways, rounds, "token"), "ours", "plain")


def _ours(model: SentenceAutoencoder, z: torch.Tensor, uniform: torch.Tensor) -> int:
    return sum(len(ids) + 1 for ids in decode_ids(model, z, uniform.shape[1], uniform=uniform))


@torch.no_grad()
def _plainly(model: SentenceAutoencoder, z: torch.Tensor, batch_size: int, max_length: int, *, has_state: bool) -> int:
    """Decode each batch until its last sentence ends. Returns the number of tokens of all sentences, with `<eos>`."""
    torch.manual_seed(0)
    num_tokens = 0
    for z_BD in z.split(batch_size):
        read_BT, state = torch.full((len(z_BD), 1), SOS_ID), model.start(z_BD)
        going_B = torch.ones(len(z_BD), dtype=torch.bool)
        while going_B.any() and read_BT.shape[1] <= max_length:
            if has_state:
                logits_BV, state = model.next_token(read_BT[:, -1], state)
            else:
                states_BTH = model.to_output(model.decoder(model.embedding(read_BT), z_BD))
                logits_BV = model.to_vocabulary.logits(states_BTH[:, -1])
            logits_BV[:, [PAD_ID, SOS_ID, UNK_ID]] = -torch.inf
            read_BT = torch.cat([read_BT, logits_BV.softmax(-1).multinomial(1)], dim=1)
            num_tokens += int(going_B.sum())
            going_B &= read_BT[:, -1] != EOS_ID
    return num_tokens


def beams(
    model: Path,
    corpus: Annotated[Path, typer.Argument(help="A prepared corpus, whose test sentences are reconstructed.")],
    count: Annotated[int, typer.Option(help="Number of sentences, drawn at random.")] = 500,
    beam: Annotated[list[int], typer.Option(help="Number of hypotheses; may be repeated.")] = [1, 4],  # noqa: B006
) -> None:
    """Measure BLEU-1 of reconstructions, and the time per sentence, by the width of the beam."""
    opened, split = smim.load(model), Corpus.open(corpus).split("test")
    ids = opened.token_ids(split.texts(np.random.default_rng(0).permutation(len(split))[:count].tolist()))
    z = opened.posterior_of_ids(ids).mean
    for width in beam:
        how = opened.writing(beam=width)
        started = time.perf_counter()
        found = opened.ids_of_codes(z, how, lambda draw: z)
        seconds = time.perf_counter() - started
        scores = [
            sentence_bleu([own], back, weights=(1.0,)) if back else 0.0 for own, back in zip(ids, found, strict=True)
        ]
        score = estimate(scores)
        lengths = np.mean([len(back) for back in found]) / np.mean([len(own) for own in ids])
        print(
            f"beam {width:2}  BLEU-1 {score['value']:.4f} ± {score['error']:.4f}, {lengths:.3f} of the length, "
            f"{1000 * seconds / count:.1f} ms a sentence"
        )


def _looked_for(model: SentenceModel, codes: torch.Tensor, beam: int) -> tuple[list[list[int]], float]:
    started = time.perf_counter()
    found, _ = nearest_ids(model.autoencoder, codes, DECODED_LENGTH, hypotheses=beam)
    return found, time.perf_counter() - started


if __name__ == "__main__":
    main(__doc__, share, checked, speed, beams)
