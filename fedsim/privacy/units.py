"""Whose presence is hidden, and which two data sets nobody shall be able to tell apart."""

from __future__ import annotations

from typing import Literal

Unit = Literal["example", "patient", "bag", "label", "site"]
"""Of privacy: whose data a mechanism hides."""

Relation = Literal["add_or_remove_one", "replace_one", "replace_special"]
"""Between neighbouring data sets, by the names of dp_accounting."""

UNITS: dict[Unit, str] = {
    "example": "training image",
    "patient": "patient",
    "bag": "bag",
    "label": "label of one image",
    "site": "hospital",
}
"""What a unit is called in sentences."""

RELATIONS: dict[Relation, str] = {
    "add_or_remove_one": "with and without it, their number being secret",
    "replace_one": "with it and with any other in its place; their number is public",
    "replace_special": "with it and with a blank in its place, which adds nothing to any gradient; "
    "their number is public",
}
"""What two neighbouring data sets are, in words."""
