"""A trained model in the sentence-transformers library: the same codes from `SentenceTransformer.encode`.

Shapes: B sentences, T tokens, D latent dimensions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from smim import storage
from smim.errors import UserError, nearest
from smim.hub import CARD, PLACE, card
from smim.lock import own_place
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import CONFIG, WEIGHTS, find, load_model, use_of
from smim.text.batch import Batch, collate
from smim.text.tokenizer import Tokenizer

try:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import InputModule
except ModuleNotFoundError as error:
    raise UserError(
        f"sentence-transformers 6 or newer is needed ({error}); install it with `pip install 'smim[hub]'`"
    ) from None

# Files that sentence-transformers needs in a model directory, besides smim's own.
FILES = ("modules.json", "config_sentence_transformers.json", "sentence_encoder.json")
# The library's names of an index's metrics.
_SIMILARITIES = {"l2": "euclidean", "cosine": "cosine", "inner_product": "dot"}

_HOW_TO = f"""
With sentence-transformers, where `smim` is installed; the flag lets the library import `smim`, none of this directory's
files is run:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({PLACE}, trust_remote_code=True)
codes = model.encode(["a sentence"])
```
"""


class SentenceEncoder(InputModule):
    """The only module of a `SentenceTransformer`: text to the mean of q(z|x), fp32 [B, D].

    As usual in this library, texts are cut after `max_seq_length` tokens, and none is refused. A text without words
    gets the code of the empty sentence, which training never saw. Unknown words are read as `<unk>`.

    `autoencoder` and `tokenizer` are the whole model, so that codes can be decoded too.
    """

    config_file_name = FILES[-1]
    config_keys = ["max_seq_length"]  # noqa: RUF012, the library's own declaration
    tokenizer: Tokenizer  # type: ignore[assignment]

    def __init__(
        self,
        autoencoder: SentenceAutoencoder,
        tokenizer: Tokenizer,
        config: dict[str, Any],
        *,
        max_seq_length: int | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder, self.tokenizer, self.config = autoencoder, tokenizer, config
        self.max_seq_length = max_seq_length or autoencoder.args.max_length

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Token ids [B, T], padded on the right, and lengths [B]."""
        longest = min(self.max_seq_length, self.autoencoder.args.max_length)
        ids = [self.tokenizer.encode((prompt or "") + text)[:longest] for text in inputs]
        batch = collate(ids, range(len(ids)))
        return {"input_ids": batch.tokens, "lengths": batch.lengths}

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        batch = Batch(rows=features["lengths"], tokens=features["input_ids"], lengths=features["lengths"])
        return {**features, "sentence_embedding": self.autoencoder.posterior(batch).mean}

    def get_embedding_dimension(self) -> int:
        return self.autoencoder.args.latent_dim

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write a model directory that `smim.load` can also read; unchanged weights keep the model's hash."""
        directory = Path(output_path)
        weights = self.autoencoder.state_dict()
        halves = {name: tensor.half() for name, tensor in weights.items()}
        # If fp16 loses nothing, the model's file was fp16 (`save_model`): write the same file again.
        if all(torch.equal(halves[name].float(), tensor.float()) for name, tensor in weights.items()):
            weights = halves
        save_file(weights, directory / WEIGHTS)
        self.tokenizer.save(directory / "tokenizer")
        storage.write_json(directory / CONFIG, {**self.config, "weights_sha256": storage.sha256(directory / WEIGHTS)})
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> "SentenceEncoder":  # type: ignore[override]
        """Load a model directory, or a model of the Hugging Face hub, on the CPU; raises `UserError` for others."""
        names = ("token", "cache_folder", "revision", "local_files_only")
        where = {name: options[name] for name in names if name in options}
        directory = cls.load_dir_path(model_name_or_path, subfolder, **where)
        if directory is None:
            raise UserError(f"{model_name_or_path} is neither a model directory nor a model of the Hugging Face hub")
        settings = cls.load_config(directory)
        return cls(*load_model(directory), **settings)


def export(model_dir: Path | str, output: Path | str, *, similarity: str | None = None) -> None:
    """Write a directory that `SentenceTransformer(DIR, trust_remote_code=True)` and `smim.load(DIR)` can load.

    Its codes are those of `SentenceModel.encode`. `similarity` is what `SentenceTransformer.similarity` computes:
    `euclidean`, `cosine`, `dot` or `manhattan`; by default the metric of the model's indexes.

    Raises `UserError` for another `similarity`, if `model_dir` is not a model, or if `output` is something else.
    """
    output = Path(output)
    known = list(SentenceTransformer.SUPPORTED_SIMILARITY_FN_NAMES)
    if similarity not in (None, *known):
        raise UserError(f"similarity is {similarity!r}; {nearest(str(similarity), known)}")
    if output.exists() and not (output / FILES[0]).is_file() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not an exported model; give another path, so that it is not lost")
    encoder = SentenceEncoder(*load_model(model_dir))
    similarity = similarity or _SIMILARITIES[use_of(encoder.config).metric]
    model = SentenceTransformer(modules=[encoder], similarity_fn_name=similarity, device="cpu")  # type: ignore[arg-type]
    with own_place(output), storage.new_directory(output) as partial:
        model.save_pretrained(str(partial), create_model_card=False)
        tags = ["smim", "sentence-transformers", "feature-extraction"]
        text = card(find(model_dir) / CARD, library="sentence-transformers", task="sentence-similarity", tags=tags)
        storage.write_text(partial / CARD, text + _HOW_TO)
