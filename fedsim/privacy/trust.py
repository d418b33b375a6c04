"""Who has to be trusted with what is released, by the purpose that the ledger has for it."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["local model", "aggregate update"]
"""Of a release that is made in a round."""

LOCAL_MODEL: Purpose = "local model"
AGGREGATE: Purpose = "aggregate update"

TRUSTED: dict[str, str] = {
    LOCAL_MODEL: "The site itself is trusted, the server and other sites are not.",
    AGGREGATE: "The server is trusted, it sees every update without noise; other sites, and "
    "whoever sees the models, are not.",
}
"""Who is trusted, in a sentence."""
