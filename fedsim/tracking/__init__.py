"""A run's records in the tool where somebody keeps curves. One way only: nothing is read back."""

from fedsim.tracking.scalars import scalars
from fedsim.tracking.tracker import Tracker, track

__all__ = ["Tracker", "scalars", "track"]
