"""How often what a model says with some probability is so, from its recorded predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clients.metrics import NUM_BINS
from fedsim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedsim.records import RunRecord
    from fedsim.records.read import Predicted


@dataclass(frozen=True)
class Reliability:
    """One curve of a reliability diagram.

    Args:
        said: mean probability in each bin that is not empty.
        seen: share of it that is so.
        counts: examples in every bin.
    """

    said: Sequence[float]
    seen: Sequence[float]
    counts: Sequence[int]


def reliability(record: RunRecord) -> dict[str, Reliability]:
    """Return the curves of the final model on pooled test and validation images.

    None at all if the predictions are not there (a run that never was evaluated).
    """
    try:
        predictions = record.predictions(record.selection.final_round)
    except InputError:
        return {}
    data = record.scenario["data"]
    positive = data["positive_class"] if data["task"] == "binary" else None
    found = {s: predictions[s] for s in ("validation", "test") if s in predictions}
    return {split: curve(list(by_site.values()), positive) for split, by_site in found.items()}


def curve(predictions: Sequence[Predicted], positive: int | None) -> Reliability:
    """Return the curve of some predictions taken together.

    Args:
        predictions: log-probabilities and labels.
        positive: whose probability is looked at; that of the decided class if None.
    """
    from sklearn.calibration import calibration_curve

    parts, truths = zip(*predictions, strict=True)
    scores, labels = np.exp(np.concatenate(parts).astype(np.float64)), np.concatenate(truths)
    said = scores.max(axis=1) if positive is None else scores[:, positive]
    so = labels == (scores.argmax(axis=1) if positive is None else positive)
    said = np.clip(said, 0, 1)
    counts, _ = np.histogram(said, NUM_BINS, (0, 1))
    seen, mean = calibration_curve(so, said, n_bins=NUM_BINS) if len(so) else ([], [])
    return Reliability(list(mean), list(seen), counts.tolist())
