"""The run that is audited: its record, and what it was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from fedsim.audit.claims import Claim, claims
from fedsim.audit.finding import TESTS, Test
from fedsim.errors import InputError
from fedsim.flower.workplace import Workplace
from fedsim.privacy.ledger import Entry, entries
from fedsim.scenario import from_data, open_population
from fedsim.seeds import Streams
from fedsim.simulate import recorded_scenario

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.records import RunRecord
    from fedsim.scenario import Scenario


@dataclass(frozen=True)
class Options:
    """What an audit does.

    Args:
        tests: which, in any order.
        num_canaries: in one-run auditing.
        num_shadows: models trained for the likelihood ratio attack; 0 leaves it out.
        seed: of the audit's own randomness.
    """

    tests: Sequence[Test] = TESTS
    num_canaries: int = 1000
    num_shadows: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A finished run, and what is to be done with it.

    Args:
        record: of the run; nothing of it is changed.
        device: where to compute.
        options: of the audit.
        streams: of the audit.
        error: probability of a false alarm, for each claim of the ledger and each other test.
    """

    record: RunRecord
    device: torch.device
    options: Options
    streams: Streams
    error: float

    @property
    def why_no_claim(self) -> str:
        """Why the ledger promises nothing that could be put to the test, if it does not."""
        if all(entry.event is None for entry in self.ledger):
            return "the ledger has no release: no site trained"
        return "the ledger has no release with noise: nobody is protected"

    @cached_property
    def scenario(self) -> Scenario:
        """What was run."""
        recorded_scenario(self.record)
        return from_data(self.record.scenario, str(self.record.folder / "scenario.yaml"))

    @cached_property
    def population(self) -> Population:
        """Its sites.

        Raises:
            InputError: if the images are not here, or not the same any more.
        """
        population = open_population(self.scenario)
        recorded = self.record.population["checksums"]
        if any(recorded[name] != value for name, value in population.checksums.items()):
            raise InputError(f"{self.record.folder}: the data changed since the run began")
        return population

    @cached_property
    def workplace(self) -> Workplace:
        """Where its sites train."""
        return Workplace(self.scenario, self.population, self.device)

    @cached_property
    def ledger(self) -> list[Entry]:
        """What it released."""
        return entries(self.record.ledger)

    @cached_property
    def claims(self) -> list[Claim]:
        """What its ledger says of private steps."""
        return claims(self.ledger)

    @property
    def seconds(self) -> float:
        """How long its rounds took."""
        return sum(float(row["seconds"]) for row in self.record.timing)

    @property
    def delta(self) -> float:
        """At which its epsilon is given; 0 where nothing is private."""
        privacy = self.scenario.privacy
        return 0.0 if privacy is None else privacy.delta
