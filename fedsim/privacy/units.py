"""Whose presence is hidden, and which two data sets nobody shall be able to tell apart."""

from __future__ import annotations

from typing import Literal

Unit = Literal["example", "patient", "bag", "label", "site"]
"""Of privacy: whose data a mechanism hides."""

Relation = Literal["add_or_remove_one", "replace_one", "replace_special"]
"""Between neighbouring data sets, by the names of dp_accounting."""

SMALLEST_DELTA = 1e-9
"""Below about 1e-10 the rounding of double precision makes epsilons some 1e-4 too small."""

UNITS: dict[Unit, str] = {
    "example": "training image",
    "patient": "patient",
    "bag": "bag",
    "label": "label of one image",
    "site": "hospital",
}
"""What a unit is called in sentences."""

RELATIONS: dict[Relation, str] = {
    "add_or_remove_one": "without it, their number being secret",
    "replace_one": "with any other in its place, their number being public",
    "replace_special": "with a blank in its place that adds nothing, their number being public",
}
"""What two neighbouring data sets are, in words."""
