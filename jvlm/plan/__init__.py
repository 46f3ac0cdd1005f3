"""What a recipe will cost before it is started: parameters, operations, memory, time, energy and money."""

from jvlm.plan.parameters import language_parameters, projector_parameters, tower_parameters
from jvlm.plan.stages import StagePlan, plan

__all__ = ["StagePlan", "language_parameters", "plan", "projector_parameters", "tower_parameters"]
