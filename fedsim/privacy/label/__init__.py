"""Label privacy: noise on what sites tell about their labels. One mechanism, one file.

`BUILTIN` lists what is added to the aggregates of bags; `RandomisedResponse` is its competitor at
sites that hold a label for every example.
"""

from fedsim.privacy.label.base import LabelPrivacy
from fedsim.privacy.label.gaussian import Gaussian
from fedsim.privacy.label.geometric import Geometric
from fedsim.privacy.label.laplace import Laplace
from fedsim.privacy.label.randomised_response import RandomisedResponse
from fedsim.privacy.label.release import LabelRelease
from fedsim.privacy.label.sensitivity import Relation, Sensitivity, of_counts, of_sums
from fedsim.privacy.label.simplex import project
from fedsim.privacy.label.truncation import Truncation

BUILTIN = (Laplace, Gaussian, Geometric)

__all__ = [
    "BUILTIN",
    "Gaussian",
    "Geometric",
    "LabelPrivacy",
    "LabelRelease",
    "Laplace",
    "RandomisedResponse",
    "Relation",
    "Sensitivity",
    "Truncation",
    "of_counts",
    "of_sums",
    "project",
]
