"""Whether a scenario promises privacy, and at which delta; of plain data, as runs keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_private(resolved: Mapping[str, Any]) -> bool:
    """Return whether a scenario protects anything, and so keeps a ledger.

    Args:
        resolved: the scenario as plain data.
    """
    return resolved.get("privacy") is not None or bool(_label_privacies(resolved))


def delta_of(resolved: Mapping[str, Any]) -> float:
    """Return the delta at which the epsilons of a run are given; 0 if no mechanism needs one.

    Args:
        resolved: the scenario as plain data.
    """
    if resolved.get("privacy") is not None:
        return float(resolved["privacy"]["delta"])
    return max((part.get("delta", 0.0) for part in _label_privacies(resolved)), default=0.0)


def _label_privacies(resolved: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = resolved.get("population", {}).get("supervision") or ()
    return [part["label_privacy"] for part in parts if part.get("label_privacy") is not None]
