"""What private training releases in each round: planned, refused, written down, then done.

The three numbers of a site's private steps are decided here once. They are what the ledger has as
the event of its release, and what is sent to the site to be carried out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

from dp_accounting.dp_event import DpEvent

from fedsim.data.population import Population
from fedsim.privacy.budget import Guard
from fedsim.privacy.calibration import least_noise
from fedsim.privacy.events import History, history
from fedsim.privacy.example_level import Steps, sampling_rate
from fedsim.privacy.ledger import Entry, entries
from fedsim.records import RunFolder
from fedsim.scenario import AllSites, Scenario
from fedsim.scenario.privacy import unprotected
from fedsim.seeds import Streams

MODEL = "local model"
"""Purpose of what a site releases in a round."""


class PrivateRounds:
    """The private rounds that a scenario plans.

    Args:
        scenario: with a privacy section.
        names: of the sites.
        num_examples: function of a site -> the number of its training examples.
    """

    def __init__(
        self, scenario: Scenario, names: Sequence[str], num_examples: Callable[[int], int]
    ) -> None:
        assert scenario.privacy is not None
        self.scenario, self.privacy = scenario, scenario.privacy
        self.names, self.num_examples = names, num_examples

    @staticmethod
    def of(scenario: Scenario, population: Population) -> PrivateRounds:
        """Return the private rounds of the sites of a population."""
        held = population.held
        return PrivateRounds(scenario, population.names, lambda site: len(held(site)["train"]))

    def steps(self, site: int) -> Steps:
        """Return what a site does in each of its rounds.

        Raises:
            InputError: if no noise keeps its epsilon to the budget.
        """
        num, client = self.num_examples(site), self.scenario.client
        rate, num_steps = sampling_rate(client.batch_size, num), client.plan.num_steps(num)
        noise = self._noise_multiplier(rate, num_steps, len(self.rounds_of(site)))
        return Steps(noise, rate, num_steps)

    def rounds_of(self, site: int) -> Sequence[int]:
        """Return the rounds for which the scenario's cohort draws a site, ascending."""
        if isinstance(self.scenario.cohort, AllSites):
            return range(1, self.scenario.rounds + 1)
        return self._drawn.get(site, [])

    def entry(self, site: int, round: int) -> Entry:
        """Return what the ledger has of a site's release in a round."""
        mechanism = self.privacy.mechanism
        return Entry(
            round,
            self.names[site],
            MODEL,
            mechanism.unit,
            mechanism.relation,
            self.num_examples(site),
            mechanism.digest,
            self.steps(site).event(),
        )

    def unprotected(self) -> list[Entry]:
        """Return what the ledger has of all that is released without noise."""
        return [Entry(0, None, item.what) for item in unprotected(self.scenario)]

    def planned(self) -> list[Entry]:
        """Return the ledger that the whole run would have, if no budget stops it."""
        sites = range(len(self.names))
        released = [self.entry(site, round) for site in sites for round in self.rounds_of(site)]
        return [*self.unprotected(), *released]

    @cached_property
    def _drawn(self) -> dict[int, list[int]]:
        cohort, streams = self.scenario.cohort, Streams(self.scenario.seed)
        drawn: dict[int, list[int]] = {}
        for round in range(1, self.scenario.rounds + 1):
            for site in cohort.draw(len(self.names), streams.numpy("cohort", round=round)):
                drawn.setdefault(site, []).append(round)
        return drawn

    def _noise_multiplier(self, rate: float, num_steps: int, num_rounds: int) -> float:
        noise, budget = self.privacy.mechanism.noise_multiplier, self.privacy.budget
        if noise != "auto":
            return noise
        assert budget is not None
        return _calibrated(rate, num_steps, max(1, num_rounds), budget.epsilon, self.privacy.delta)


@cache
def _calibrated(
    rate: float, num_steps: int, num_rounds: int, epsilon: float, delta: float
) -> float:
    """Return the least noise with which so many rounds keep to epsilon."""

    def made(noise: float) -> History:
        return history([(Steps(noise, rate, num_steps).event(), num_rounds)])

    return least_noise(made, epsilon, delta)


class Desk:
    """Lets sites release, and writes each release down before it happens.

    Args:
        rounds: that are planned.
        folder: which has the ledger.
    """

    def __init__(self, rounds: PrivateRounds, folder: RunFolder) -> None:
        self._rounds, self._folder = rounds, folder
        budget, delta = rounds.privacy.budget, rounds.privacy.delta
        self._guard = None if budget is None else Guard(budget.epsilon, delta)
        self._stops_run = budget is not None and budget.on_budget == "stop_run"
        self._stopped = False
        self._spent: dict[str, Counter[DpEvent]] = {}
        self._refused: list[str] = []

    def open(self) -> None:
        """Begin the ledger of a run: with what it releases unprotected."""
        self._folder.add_releases(entry.row() for entry in self._rounds.unprotected())

    def restore(self, last: int, state: dict[str, Any]) -> None:
        """Go on after a round with what `state` returned then."""
        self._stopped = state["stopped"]
        for entry in entries(self._folder.releases()):
            if entry.round <= last and entry.site is not None and entry.event is not None:
                self._note(entry.site, entry.event)

    def state(self) -> dict[str, Any]:
        """Return what the ledger does not tell."""
        return {"stopped": self._stopped}

    def admit(self, round: int, cohort: list[int]) -> list[int]:
        """Return the sites of a cohort whose budget has room for a round."""
        self._refused = []
        if self._guard is None:
            return cohort
        admitted = []
        for site in cohort:
            if not self._stopped and self._affords(round, site):
                admitted.append(site)
            else:
                self._refused.append(self._rounds.names[site])
                self._stopped |= self._stops_run
        if self._stopped:
            self._refused, admitted = [self._rounds.names[site] for site in cohort], []
        return admitted

    def charge(self, round: int, sites: list[int]) -> None:
        """Write down that sites release something in a round; on disk when this returns."""
        self._folder.add_releases(self._rounds.entry(site, round).row() for site in sites)
        for site in sites:
            name = self._rounds.names[site]
            self._note(name, self._rounds.steps(site).event())
            if self._guard is not None:
                self._guard.charge(name)

    def steps(self, site: int) -> Steps:
        """Return what a site has to do in the round that was written down."""
        return self._rounds.steps(site)

    def row(self) -> dict[str, Any]:
        """Return what `rounds.jsonl` says beside the rest of the round that began last."""
        return {"out_of_budget": self._refused}

    def _affords(self, round: int, site: int) -> bool:
        assert self._guard is not None
        name = self._rounds.names[site]
        planned = self._rounds.rounds_of(site)
        most = len(planned) - bisect_left(planned, round)
        event = self._rounds.steps(site).event()
        return self._guard.affords(name, self._spent.get(name, Counter()), event, most)

    def _note(self, site: str, event: DpEvent) -> None:
        for part, count in history([(event, 1)]).items():
            self._spent.setdefault(site, Counter())[part] += count
