"""Training objectives: losses as functions of a draw of codes, logged as named terms in nats per sentence."""

from smim.objectives.base import Critic, Draw, Objective, Terms
from smim.objectives.registry import OBJECTIVES, objective_class

__all__ = ["OBJECTIVES", "Critic", "Draw", "Objective", "Terms", "objective_class"]
