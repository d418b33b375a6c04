"""Who has to be trusted with what is released, by the purpose that the ledger has for it."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["local model", "aggregate update", "secure sum"]
"""Of a release that is made in a round."""

LOCAL_MODEL: Purpose = "local model"
AGGREGATE: Purpose = "aggregate update"
SECURE_SUM: Purpose = "secure sum"
AGAIN = ", made again"
"""After the purpose of a release that a crash cut off and that had other noise afterwards."""
OF_SERVER: frozenset[str] = frozenset({AGGREGATE, SECURE_SUM})
"""Purposes of what the server releases."""

TRUSTED: dict[str, str] = {
    LOCAL_MODEL: "The site itself is trusted, the server and other sites are not.",
    AGGREGATE: "The server is trusted, it sees every update without noise; other sites, and "
    "whoever sees the models, are not.",
    SECURE_SUM: "No server is trusted, if it sees sums of updates alone: that is assumed here, a "
    "deployment needs secure aggregation (Flower's SecAgg+), and as many honest sites in every sum "
    "as the noise is made for. Not modelled: that secure sums are of integers modulo a number, so "
    "updates are rounded (a longer update, so more sensitivity), sums may wrap around, and noise "
    "has to be discrete, whose sum is not quite of the same law.",
}
"""Who is trusted, in a sentence."""
TRUSTED_WITH_LABELS = (
    "Who tells of the site's labels is trusted; whoever trains on what is told is not, at the site "
    "or elsewhere. Images, and which image is in which bag, are taken to be known to all."
)
"""Who is trusted with labels that are told before the first round."""
