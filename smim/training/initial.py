"""A trained model that gives the initial weights of a training (`model.init` on the command line)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from smim.errors import UserError, refuse
from smim.model.args import ModelArgs
from smim.model.directory import CONFIG, find, hash_of, load_model, read_config, use_of
from smim.model.registry import read_args
from smim.text.corpus import Corpus
from smim.vectors.corpus import VectorCorpus

KEY = "model.init"
# The keys that jobs which fit a prior write into a model's `training` section.
_FITTING_PRIORS = {"fitted_prior", "adapted"}


@dataclass(frozen=True)
class Initial:
    """A model of sentences. `name` is a directory, or the name of a packaged model.

    `args`: its architecture, without a prior that was fitted after training. Such a prior is narrow around codes of
    other text, so its gradient would be much larger than the reconstruction's. `hash`: identifies the model in
    checkpoints. `use`: its defaults of use, except for `sample`, which depends on the new codes.
    """

    name: str
    args: ModelArgs
    tokenizer_hash: str
    hash: str
    use: dict[str, Any]

    @classmethod
    def open(cls, name: str) -> "Initial":
        """Read everything except the weights. Raises `UserError` if there is no such model, or it is one of vectors."""
        config = read_config(find(name))
        args = read_args(config.get("model"), find(name) / CONFIG)
        if args.unit != "sentence":
            raise UserError(f"{KEY}={name} is a model of {args.unit}s; give a model of sentences")
        if not _FITTING_PRIORS.isdisjoint(config["training"]):
            args = replace(args, prior="standard_normal", num_prior_components=ModelArgs.num_prior_components)
        use = asdict(use_of(config))
        del use["sample"]
        return cls(name, args, config["tokenizer_hash"], hash_of(name), use)

    @property
    def section(self) -> dict[str, Any]:
        """The section `model` of a configuration with this initial model."""
        return {**asdict(self.args), "init": self.name}

    def check(self, corpus: Corpus | VectorCorpus) -> None:
        """Raise `UserError` if the corpus was prepared with another tokenizer than the model's."""
        if corpus.input_hash != self.tokenizer_hash:
            raise UserError(
                f"{corpus.directory} was prepared with another tokenizer than that of {KEY}={self.name}; prepare it "
                f"again: `smim prepare ... corpus.tokenizer.dir={self.name}`"
            )

    def weights(self) -> dict[str, Tensor]:
        """Load the weights by name, on the CPU. Raises `UserError` if they are damaged."""
        model, _, _ = load_model(self.name)
        kept = model.args.prior == self.args.prior
        return {name: weight for name, weight in model.state_dict().items() if kept or not name.startswith("prior.")}


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise `UserError` for other settings of the model beside `model.init`, because they would have no effect."""
    said = said_values(overrides)
    if said.get(KEY) in (None, "null"):
        return
    refuse(
        f"{key}={value} has no effect, because {KEY}={said[KEY]} determines the architecture; leave one of them out"
        for key, value in said.items()
        if (key.startswith("model.") and key != KEY) or key == "model"
    )


def said_values(overrides: Sequence[str]) -> Mapping[str, str]:
    """Parse the KEY=VALUE arguments of a command line. The last value of a key counts."""
    pairs = (override.partition("=") for override in overrides if "=" in override and override[0] != "-")
    return {key.lstrip("+~"): value for key, _, value in pairs}
