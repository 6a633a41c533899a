"""Training objectives: functions of (model, batch) that return named terms in nats per sentence."""

from smim.objectives.base import Objective, Terms
from smim.objectives.registry import OBJECTIVES, make_objective

__all__ = ["OBJECTIVES", "Objective", "Terms", "make_objective"]
