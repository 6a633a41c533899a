"""The interfaces of encoders and decoders of sentences, which GRU, transformer and superposition implement.

Shapes: B sentences, T tokens, U distinct words, E embedding, H = `output_dim`, D latent, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from smim.model.args import ModelArgs, PartArgs
from smim.model.latent_space import make_log_variance
from smim.schema import bounded


class Part(nn.Module, ABC):
    """An encoder or a decoder.

    `graphable`: a step consists of many small kernels that are the same for all batches of one shape. `compilable`:
    `torch.compile` makes it faster. This excludes loops over words, which `torch.compile` can only unroll.
    """

    graphable: ClassVar[bool] = False
    compilable: ClassVar[bool] = False
    output_dim: int

    def products(self, num_tokens: float) -> float:
        """Multiplications in a forward pass over `num_tokens` (with `<sos>` or `<eos>`), without the output layer."""
        return num_tokens * matrix_weights(self)


class Encoder(Part):
    """An encoder of reversed sentences, with `<sos>` last.

    `meaning_dim`: the first numbers of a code that are its meaning part; 0 means none. `tokens_on_cpu`: the size of
    batches that a CPU encodes fastest. `has_table`: on a CPU, `read` with a table of words is faster than `forward`.
    """

    meaning_dim: int = 0
    tokens_on_cpu: ClassVar[int] = 8192
    has_table: ClassVar[bool] = False

    @abstractmethod
    def forward(self, embedded_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the state [B, H] from which z follows. Padding on the right is not read."""

    def make_posterior(self, args: ModelArgs) -> tuple[nn.Module, nn.Module]:
        """Make the layers from `forward`'s state to the mean of q(z|x), and to its log variance before the clamp."""
        return nn.Linear(self.output_dim, args.latent_dim), make_log_variance(args, self.output_dim)

    def word_table(self, embedding_UE: Tensor, longest: int) -> list[Tensor]:
        """Compute the columns of a lookup table of U words, the first of which is `<pad>`.

        They hold what depends on each word alone, or on each position alone, in sentences of up to `longest` words.
        Only encoders with `has_table` implement this method and `read`.
        """
        raise NotImplementedError

    def read(self, words_BT: Tensor, lengths_B: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """Compute what `forward` computes, from rows of the columns of `word_table`, without a gradient."""
        raise NotImplementedError


class Decoder(Part):
    """A decoder that generates a sentence word by word from a code z."""

    @abstractmethod
    def forward(self, embedded_BTE: Tensor, z_BD: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Compute the states [B, T, H] that predict each next token (teacher forcing).

        States from `lengths` on are not used, so a decoder need not compute them. By default all are used.
        """

    @abstractmethod
    def start(self, z_BD: Tensor) -> tuple[Tensor, ...]:
        """Compute the initial state of `step`: tensors with a row per sentence.

        A decoder of codes with a meaning part also takes `literal`, the share from 0 to 1 that it gets of the rest.
        """

    @abstractmethod
    def step(self, embedded_BE: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read one token. Return the output [B, H] that predicts the next one, and the new state.

        Caches in `state` are changed in place, so continue only from the returned state.
        """


@dataclass(frozen=True)
class DecoderArgs(PartArgs):
    """The settings of all decoders of sentences. `embedding_dropout`: the dropout of the input embeddings."""

    embedding_dropout: float = bounded(0.5, least=0, below=1)


def matrix_weights(module: nn.Module) -> int:
    """The number of weights in matrices. Pooling queries have three axes and belong to the attention, so not here."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 2)
