"""Training objectives. Each is a loss of a draw of codes, and returns named terms in nats per observation."""

from smim.objectives.base import Objective
from smim.objectives.draw import Critic, Draw, Terms
from smim.objectives.registry import OBJECTIVES, objective_class

__all__ = ["OBJECTIVES", "Critic", "Draw", "Objective", "Terms", "objective_class"]
