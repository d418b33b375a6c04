"""What private training releases in each round: planned, refused, written down, then done.

The numbers of a release are decided here once. They are what the ledger has as its event, and what
is sent to the sites to be carried out.

A release is made by a site, or by the server in the name of all sites; who makes it is a number of
a site, or None. The server's release costs every site alike, also one that is not in the cohort,
where nobody knows the cohort or all sites are in it; where a cohort of a fixed size is known, or
sites take turns, it costs those sites alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any

from dp_accounting.dp_event import DpEvent

from fedsim.data.population import Population
from fedsim.errors import InputError
from fedsim.privacy import AggregateMechanism, Mechanism
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.budget import Guard
from fedsim.privacy.calibration import least_noise
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry, entries
from fedsim.privacy.mechanism import Release, Setting
from fedsim.privacy.private_mean import PrivateMean
from fedsim.records import RunFolder
from fedsim.scenario import AllSites, Cyclic, FixedSize, Poisson, Scenario
from fedsim.scenario.privacy import num_units, unprotected
from fedsim.seeds import Streams

Releaser = int | None
"""A site, or None for the server in the name of all sites."""


class PrivateRounds:
    """The private rounds that a scenario plans.

    Args:
        scenario: with a privacy section.
        names: of the sites.
        num_units: function of a site -> how many units of the mechanism's kind it has; of the unit
            "site", how many sites there are.
        num_examples: function of a site -> the number of its training examples; by default each is
            a unit.
    """

    def __init__(
        self,
        scenario: Scenario,
        names: Sequence[str],
        num_units: Callable[[int], int],
        num_examples: Callable[[int], int] | None = None,
    ) -> None:
        assert scenario.privacy is not None
        self.scenario, self.privacy = scenario, scenario.privacy
        self.names, self.num_units = names, num_units
        self.num_examples = num_examples or num_units

    @staticmethod
    def of(scenario: Scenario, population: Population) -> PrivateRounds:
        """Return the private rounds of the sites of a population."""
        return PrivateRounds(
            scenario,
            population.names,
            cache(partial(num_units, scenario, population)),
            lambda site: len(population.held(site)["train"]),
        )

    @property
    def by_server(self) -> bool:
        """Whether the server releases, in the name of all sites."""
        return self.privacy.mechanism.released_by == "server"

    def releasers(self, cohort: list[int]) -> Sequence[Releaser]:
        """Return whose releases the ledger has of a round."""
        return [None] if self._costs_all_alike else cohort

    def release(self, releaser: Releaser) -> Release:
        """Return what is released at a time.

        Raises:
            InputError: if no noise keeps epsilon to the budget.
        """
        return self._priced(self._setting(releaser))

    def alone(self, site: int) -> Release:
        """Return what a site releases in every round if it trains alone, for the same price."""
        setting = self._setting(site)
        return self._priced(replace(setting, num_rounds=self.scenario.rounds, num_models=1))

    def rounds_of(self, releaser: Releaser) -> Sequence[int]:
        """Return the rounds in which something is released, ascending."""
        if releaser is None or isinstance(self.scenario.cohort, AllSites):
            return range(1, self.scenario.rounds + 1)
        return self._drawn.get(releaser, [])

    def charged(self, releaser: Releaser) -> Sequence[int]:
        """Return the rounds in which the ledger has a release of it, ascending."""
        return self.privacy.mechanism.charged(self.rounds_of(releaser))

    def name(self, releaser: Releaser) -> str:
        """Return what a releaser is called."""
        return ALL_SITES if releaser is None else self.names[releaser]

    def entry(self, releaser: Releaser, round: int) -> Entry:
        """Return what the ledger has of a release in a round."""
        mechanism = self.privacy.mechanism
        return Entry(
            round,
            None if releaser is None else self.names[releaser],
            mechanism.purpose,
            mechanism.unit,
            mechanism.relation,
            self._num_units(releaser),
            mechanism.digest,
            self.release(releaser).event(),
        )

    def unprotected(self) -> list[Entry]:
        """Return what the ledger has of all that is released without noise."""
        return [Entry(0, None, item.what) for item in unprotected(self.scenario)]

    def planned(self) -> list[Entry]:
        """Return the ledger that the whole run would have, if no budget stops it."""
        releasers = self.releasers(list(range(len(self.names))))
        released = [self.entry(one, round) for one in releasers for round in self.charged(one)]
        return [*self.unprotected(), *released]

    def mean(self) -> PrivateMean | None:
        """Return what makes the means that the server releases, None if sites release.

        Raises:
            InputError: if no noise is enough, or there are too few sites in a round.
        """
        mechanism = self.privacy.mechanism
        if not isinstance(mechanism, AggregateMechanism):
            return None
        noise = self.release(self.releasers([0])[0]).noise_multiplier
        cohort, num = self.scenario.cohort, len(self.names)
        expected, separation = cohort.num_expected(num), cohort.separation(num)
        if found := mechanism.too_few(noise, expected):
            raise InputError("privacy.mechanism.{}: {}".format(*found))
        return mechanism.mean(noise, expected, Streams(self.scenario.seed), separation)

    @property
    def _costs_all_alike(self) -> bool:
        return self.by_server and not isinstance(self.scenario.cohort, FixedSize | Cyclic)

    @cached_property
    def _drawn(self) -> dict[int, list[int]]:
        cohort, streams = self.scenario.cohort, Streams(self.scenario.seed)
        drawn: dict[int, list[int]] = {}
        for round in range(1, self.scenario.rounds + 1):
            for site in cohort.draw(len(self.names), round, streams):
                drawn.setdefault(site, []).append(round)
        return drawn

    @cached_property
    def _most_drawn(self) -> int:
        """How often the site takes part that does so most often."""
        return max(map(len, self._drawn.values()))

    def _num_units(self, releaser: Releaser) -> int:
        return self.num_units(0 if releaser is None else releaser)

    def _setting(self, releaser: Releaser) -> Setting:
        cohort, rate = self.scenario.cohort, 1.0
        if self.by_server and isinstance(cohort, Poisson):
            rate = cohort.sampling_rate
        # one noise protects all sites of a sum: it has to do for the one that is drawn most often
        once_for_all = self.by_server and releaser is not None
        num_rounds = self._most_drawn if once_for_all else len(self.rounds_of(releaser))
        return Setting(
            self._num_units(releaser),
            self.scenario.client.plan,
            rate,
            max(1, num_rounds),
            None if releaser is None else self.num_examples(releaser),
            self._num_models,
        )

    @cached_property
    def _num_models(self) -> int:
        beside = self.scenario.client.personalisation
        return 2 if beside is not None and beside.beside is not None else 1

    def _priced(self, setting: Setting) -> Release:
        """Return what is released with the noise that the scenario gives, or its budget asks for.

        Raises:
            InputError: if no noise is enough.
        """
        mechanism, budget = self.privacy.mechanism, self.privacy.budget
        noise = mechanism.noise_multiplier
        if noise == "auto":
            assert budget is not None
            noise = _calibrated(mechanism, setting, budget.epsilon, self.privacy.delta)
        return mechanism.release(noise, setting)


@cache
def _calibrated(mechanism: Mechanism, setting: Setting, epsilon: float, delta: float) -> float:
    """Return the least noise with which all rounds of a setting keep to epsilon."""
    num = len(mechanism.charged(range(1, setting.num_rounds + 1)))

    def made(noise: float) -> History:
        return history([(mechanism.release(noise, setting).event(), num)])

    return least_noise(made, epsilon, delta)


class Desk:
    """Lets sites and server release, and writes each release down before it happens.

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
        self._admitted: list[int] = []

    def open(self) -> None:
        """Begin the ledger of a run: with what it releases unprotected."""
        self._folder.add_releases(entry.row() for entry in self._rounds.unprotected())

    def restore(self, last: int, state: dict[str, Any]) -> None:
        """Go on after a round with what `state` returned then."""
        self._stopped = state["stopped"]
        for entry in entries(self._folder.releases()):
            of_training = entry.unit == self._rounds.privacy.mechanism.unit
            if entry.round <= last and entry.event is not None and of_training:
                self._note(entry.site or self._rounds.name(None), entry.event)

    def state(self) -> dict[str, Any]:
        """Return what the ledger does not tell."""
        return {"stopped": self._stopped}

    def admit(self, round: int, cohort: list[int]) -> list[int]:
        """Return the sites of a cohort whose budget has room for a round."""
        self._refused, self._admitted = [], cohort
        if self._guard is None:
            return cohort
        asking = [] if self._stopped else self._rounds.releasers(cohort)
        out = {one for one in asking if not self._affords(round, one)}
        self._stopped |= None in out or (bool(out) and self._stops_run)
        out |= set(cohort) if self._stopped else set()
        self._admitted = [site for site in cohort if site not in out]
        self._refused = [self._rounds.names[site] for site in cohort if site in out]
        return self._admitted

    def charge(self, round: int, sites: list[int]) -> None:
        """Write down what is released in a round; on disk when this returns.

        The server's release costs a site that was drawn and does not answer like any other.

        Args:
            round: that was asked for last.
            sites: that train in it.
        """
        releasing = self._releasing() if self._rounds.by_server else sites
        due = [one for one in releasing if round in self._rounds.charged(one)]
        self._folder.add_releases(self._rounds.entry(one, round).row() for one in due)
        for one in due:
            name = self._rounds.name(one)
            self._note(name, self._rounds.release(one).event())
            if self._guard is not None:
                self._guard.charge(name)

    def mean(self) -> PrivateMean | None:
        """Return what makes the means that the server releases, None if sites release."""
        return self._rounds.mean()

    def release(self, site: int) -> Release:
        """Return what was written down of a round in which a site takes part, to be carried out."""
        (releaser,) = self._rounds.releasers([site])
        return self._rounds.release(releaser)

    @property
    def releases_alone(self) -> bool:
        """Whether the server has to release in this round, even if no site answers."""
        return self._rounds.by_server and bool(self._releasing())

    def row(self) -> dict[str, Any]:
        """Return what `rounds.jsonl` says beside the rest of the round that began last."""
        return {"out_of_budget": self._refused}

    def _releasing(self) -> Sequence[Releaser]:
        """Return who releases in the round that was asked for last, as far as the server does."""
        return [] if self._stopped else self._rounds.releasers(self._admitted)

    def _affords(self, round: int, releaser: Releaser) -> bool:
        assert self._guard is not None
        charged = self._rounds.charged(releaser)
        most = len(charged) - bisect_left(charged, round)
        if round not in charged:
            return True
        name, event = self._rounds.name(releaser), self._rounds.release(releaser).event()
        return self._guard.affords(name, self._spent.get(name, Counter()), event, most)

    def _note(self, name: str, event: DpEvent) -> None:
        for part, count in history([(event, 1)]).items():
            self._spent.setdefault(name, Counter())[part] += count
