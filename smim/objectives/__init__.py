"""Training objectives: functions of (model, batch) that return named terms in nats per sentence."""

from smim.objectives.base import Objective, Terms
from smim.objectives.registry import OBJECTIVES, objective_class

__all__ = ["OBJECTIVES", "Objective", "Terms", "objective_class"]
