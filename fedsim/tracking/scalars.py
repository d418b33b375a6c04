"""What a run's records hold that is a number by round.

Names are `METRIC/SPLIT` over all sites together and `METRIC/SPLIT/SITE` at one, `train_loss`,
`bytes_up`, `bytes_down`, `seconds`, and `loss_decomposition/TERM`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fedsim.data.source import POOLED

if TYPE_CHECKING:
    from fedsim.records import RunRecord

OF_ROUNDS = ("train_loss", "bytes_up", "bytes_down")
Scalar = tuple[int, str, float]
"""Round, name, value."""


def scalars(record: RunRecord) -> Iterator[Scalar]:
    """Yield every value that is defined and finite, in the order of the records."""
    for round, name, value in _all(record):
        if value is not None and math.isfinite(value):
            yield round, name, float(value)


def _all(record: RunRecord) -> Iterator[tuple[int, str, Any]]:
    for row in record.metrics:
        site = "" if row["site"] == POOLED else f"/{row['site']}"
        yield row["round"], f"{row['metric']}/{row['split']}{site}", row["value"]
    for row in record.rounds:
        for name in OF_ROUNDS:
            yield row["round"], name, row.get(name)
        for term, value in (row.get("loss_decomposition") or {}).items():
            yield row["round"], f"loss_decomposition/{term}", value
    for row in record.timing:
        yield row["round"], "seconds", row["seconds"]
