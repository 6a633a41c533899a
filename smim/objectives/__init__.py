"""Training objectives: losses as functions of a draw of codes, logged as named terms in nats per sentence."""

from smim.objectives.base import Objective
from smim.objectives.draw import Critic, Draw, Terms
from smim.objectives.registry import OBJECTIVES, objective_class

__all__ = ["OBJECTIVES", "Critic", "Draw", "Objective", "Terms", "objective_class"]
