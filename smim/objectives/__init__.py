"""Training objectives: functions of (model, batch) that return named terms in nats per sentence."""

from smim.objectives.base import Critic, Objective, Terms
from smim.objectives.registry import OBJECTIVES, objective_class

__all__ = ["OBJECTIVES", "Critic", "Objective", "Terms", "objective_class"]
