"""What makes a release private: sampler, clip, noise, event and relation in one object."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from fedsim.plugins import Part
from fedsim.privacy.trust import LOCAL_MODEL, Purpose
from fedsim.privacy.units import Relation, Unit

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

    from clients.training import Plan
    from fedsim.privacy.private_mean import PrivateMean
    from fedsim.seeds import Streams

LARGEST_NOISE = 1e4
"""Beyond it nothing is learned."""
NoiseMultiplier = Literal["auto"] | Annotated[float, Field(ge=0, le=LARGEST_NOISE)]


@dataclass(frozen=True)
class Release(ABC):
    """What is released at a time: the plain numbers that drive it and make its event.

    Args:
        noise_multiplier: the noise's standard deviation over clip_norm.
    """

    noise_multiplier: float

    @abstractmethod
    def event(self) -> DpEvent:
        """Return what dp_accounting calls this, its noise in units of the sensitivity."""


@dataclass(frozen=True)
class Setting:
    """What a mechanism is used for, as far as its releases depend on it.

    Args:
        num_units: of the mechanism's kind that the releasing site has; of the unit "site", how
            many sites there are.
        plan: what a site does in a round.
        sampling_rate: with which each site is in a round's cohort, if nobody but a trusted server
            knows whether it is; 1 otherwise.
        num_rounds: in which something is released.
        num_examples: that the units have together; None where all sites release together.
        num_models: that a site trains on its units in a round: 2 with a personal one beside.
    """

    num_units: int
    plan: Plan
    sampling_rate: float = 1.0
    num_rounds: int = 1
    num_examples: int | None = None
    num_models: int = 1


class Mechanism(Part):
    """A private mechanism.

    The event that the ledger has of a release is made from the same numbers that drive the
    computation. Its noise is counted in units of the sensitivity under `relation`, whatever that
    relation is, so that no accountant has to know it.
    """

    kind: str
    noise_multiplier: NoiseMultiplier

    unit: ClassVar[Unit]
    """Whose presence it hides."""
    relation: ClassVar[Relation]
    """Which data sets it makes hard to tell apart."""
    clips: ClassVar[Literal["gradients", "updates"]]
    """What is clipped: in every local step, or once when a site has trained."""
    released_by: ClassVar[Literal["site", "server"]] = "site"
    """Whose releases the ledger has: those of each site, or one of all sites together."""
    purpose: ClassVar[Purpose] = LOCAL_MODEL
    """What is released."""

    @abstractmethod
    def release(self, noise_multiplier: float, setting: Setting) -> Release:
        """Return what is released in a round."""

    @abstractmethod
    def read(self, fields: dict[str, Any]) -> Release:
        """Return the release whose fields travelled to a site."""

    @property
    def digest(self) -> str:
        """What the ledger has of all that the scenario says of it."""
        return digest(self)


class AggregateMechanism(Mechanism):
    """A mechanism whose releases are means of client updates, made by the server for all sites."""

    unit: ClassVar[Unit] = "site"
    relation: ClassVar[Relation] = "replace_special"
    clips: ClassVar[Literal["gradients", "updates"]] = "updates"
    released_by: ClassVar[Literal["site", "server"]] = "server"

    @abstractmethod
    def mean(
        self, noise_multiplier: float, num_expected: float, streams: Streams, separation: int = 1
    ) -> PrivateMean:
        """Return what makes the means of a run.

        Args:
            noise_multiplier: of the releases.
            num_expected: D, sites that are expected in a round.
            streams: of the scenario.
            separation: successive rounds in which no site takes part twice, 1 where nobody knows.
        """

    def too_few(self, noise_multiplier: float, num_expected: float) -> tuple[str, str] | None:
        """Return the field that asks for more sites in a round, and why; None if they suffice.

        Args:
            noise_multiplier: of the releases; 0 for what holds with any.
            num_expected: as in `mean`.
        """
        return None


def digest(part: Part) -> str:
    """Return the beginning of the SHA-256 of all that a scenario says of a mechanism."""
    written = json.dumps(part.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:10]
