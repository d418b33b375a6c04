"""A first scenario for somebody's data: what is in them, and a commented file that fits."""

from fedsim.starter.sighting import Sighting, look
from fedsim.starter.writing import scenario_for

__all__ = ["Sighting", "look", "scenario_for"]
