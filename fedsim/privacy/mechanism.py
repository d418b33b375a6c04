"""What makes a release private: sampler, clip, noise, event and relation in one object."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar

from fedsim.plugins import Part
from fedsim.privacy.units import Relation, Unit


class Mechanism(Part):
    """A private mechanism.

    The event that the ledger has of a release is made from the same numbers that drive the
    computation. Its noise is counted in units of the sensitivity under `relation`, whatever that
    relation is, so that no accountant has to know it.
    """

    kind: str
    unit: ClassVar[Unit]
    """Whose presence it hides."""
    relation: ClassVar[Relation]
    """Which data sets it makes hard to tell apart."""

    @property
    def digest(self) -> str:
        """The beginning of the SHA-256 of all that the scenario says of it."""
        written = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:10]
