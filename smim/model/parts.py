"""What an encoder and a decoder of sentences are: GRU, transformer and superposition are behind this interface.

Shapes: B sentences, T tokens, E embedding, H = `output_dim`, D latent, V vocabulary.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from smim.model.args import ModelArgs, PartArgs
from smim.model.latent_space import make_log_variance
from smim.schema import bounded


class Part(nn.Module, ABC):
    """An encoder or a decoder.

    `graphable`: whether a step of it is many small kernels, the same ones for each batch of one shape. `compilable`:
    whether it gains by `torch.compile`, which can only unroll a loop over words.
    """

    graphable: ClassVar[bool] = False
    compilable: ClassVar[bool] = False
    output_dim: int

    def products(self, num_tokens: float) -> float:
        """Multiplications of a forward pass of one sentence, `<sos>` or `<eos>` counted; the vocabulary is not."""
        return num_tokens * matrix_weights(self)


class Encoder(Part):
    """Reads a reversed sentence, `<sos>` last.

    `meaning_dim`: how many of a code's first numbers are its meaning part; 0: it has no such part.
    """

    meaning_dim: int = 0

    @abstractmethod
    def forward(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """What z is made of [B, H]; padding on the right is not read."""

    def make_posterior(self, args: ModelArgs) -> tuple[nn.Module, nn.Module]:
        """What leads from `forward`'s state to q(z|x)'s mean, and to its log variance before the clamp."""
        return nn.Linear(self.output_dim, args.latent_dim), make_log_variance(args, self.output_dim)

    def word_gates(self, embedding_VE: Tensor) -> Tensor | None:
        """A table of all words that makes `read` faster than `forward`; None where there is no such table."""
        return None

    def read(self, tokens_BT: Tensor, lengths_B: Tensor, word_gates: Tensor) -> Tensor:
        """What `forward` gives for these tokens, without a gradient, from the table of `word_gates`."""
        raise NotImplementedError


class Decoder(Part):
    """Says a sentence word by word, from a code z."""

    @abstractmethod
    def forward(self, embedded_BTE: Tensor, z_BD: Tensor) -> Tensor:
        """Teacher forcing: the states [B, T, H] that predict each next token."""

    @abstractmethod
    def start(self, z_BD: Tensor) -> tuple[Tensor, ...]:
        """What `step` goes on from: tensors with a row a sentence.

        A decoder of codes with a meaning part takes `literal` too, how much it is given of the rest: from 0 to 1.
        """

    @abstractmethod
    def step(self, embedded_BE: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One token: the output [B, H] that predicts the next one, and the state after it.

        Caches of `state` are written in place: go on from what is returned.
        """


@dataclass(frozen=True)
class DecoderArgs(PartArgs):
    """What settings all decoders of sentences have. `embedding_dropout` acts on the input."""

    embedding_dropout: float = bounded(0.5, least=0, below=1)


def matrix_weights(module: nn.Module) -> int:
    """The weights that a token is multiplied with. A pooling query has three axes: it is a party of the attention."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 2)
