"""sentenceMIM: one fixed-size code per sentence that can be searched and decoded.

import smim
model = smim.load("runs/ptb_amim_512/model")
codes = model.encode(["the company said profit rose"])
model.decode(codes)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["SentenceModel", "from_hub", "load"]

if TYPE_CHECKING:
    from smim.generation import SentenceModel, load
    from smim.hub import from_hub


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `smim --help` and corpus tools should not wait for it.
    if name == "from_hub":
        from smim.hub import from_hub

        return from_hub
    if name in __all__:
        from smim import generation

        return getattr(generation, name)
    raise AttributeError(f"module 'smim' has no attribute {name!r}")
