"""What private training releases in each round, as it is planned.

The numbers of a release are decided here once. They are what the ledger has as its event, and what
is sent to the sites to be carried out.

A release is made by a site, or by the server in the name of all sites; who makes it is a number of
a site, or None. The server's release costs every site alike, also one that is not in the cohort,
where nobody knows the cohort or all sites are in it; where a cohort of a fixed size is known, or
sites take turns, it costs those sites alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial

from fedsim.data.population import Population
from fedsim.errors import InputError
from fedsim.privacy import AggregateMechanism, Mechanism
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.calibration import least_noise, noises_together
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry
from fedsim.privacy.mechanism import Release, Setting
from fedsim.privacy.private_mean import PrivateMean
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
        shared: sites that train on images of the same patients, where patients are hidden: who is
            there spends what all of them release.
    """

    def __init__(
        self,
        scenario: Scenario,
        names: Sequence[str],
        num_units: Callable[[int], int],
        num_examples: Callable[[int], int] | None = None,
        shared: Sequence[tuple[int, ...]] = (),
    ) -> None:
        assert scenario.privacy is not None
        self.scenario, self.privacy = scenario, scenario.privacy
        self.names, self.num_units = names, num_units
        self.num_examples, self.shared = num_examples or num_units, shared

    @staticmethod
    def of(scenario: Scenario, population: Population) -> PrivateRounds:
        """Return the private rounds of the sites of a population."""
        return PrivateRounds(
            scenario,
            population.names,
            cache(partial(num_units, scenario, population)),
            lambda site: len(population.held(site)["train"]),
            _shared(scenario, population),
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
        return self._priced(releaser, self._setting(releaser), self._raised)

    def alone(self, site: int) -> Release:
        """Return what a site releases in every round if it trains alone, for the same price."""
        return self._priced(site, self._setting_alone(site), self._raised_alone)

    def rounds_of(self, releaser: Releaser) -> Sequence[int]:
        """Return the rounds in which something is released, ascending."""
        if releaser is None or isinstance(self.scenario.cohort, AllSites):
            return range(1, self.scenario.rounds + 1)
        return self._drawn.get(releaser, [])

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
        released = [self.entry(one, round) for one in releasers for round in self.rounds_of(one)]
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

    def _setting_alone(self, site: int) -> Setting:
        return replace(self._setting(site), num_rounds=self.scenario.rounds, num_models=1)

    @cached_property
    def _num_models(self) -> int:
        beside = self.scenario.client.personalisation
        return 2 if beside is not None and beside.beside is not None else 1

    def _priced(self, releaser: Releaser, setting: Setting, raised: Mapping[int, float]) -> Release:
        """Return what is released with the noise that the scenario gives, or its budget asks for.

        Raises:
            InputError: if no noise is enough.
        """
        mechanism, budget = self.privacy.mechanism, self.privacy.budget
        noise = mechanism.noise_multiplier
        if noise == "auto":
            assert budget is not None
            known = None if releaser is None else raised.get(releaser)
            noise = known or _calibrated(mechanism, setting, budget.epsilon, self.privacy.delta)
        return mechanism.release(noise, setting)

    @cached_property
    def _raised(self) -> dict[int, float]:
        drawn = [[site for site in sites if self.rounds_of(site)] for sites in self.shared]
        return self._solved_together(self._setting, drawn)

    @cached_property
    def _raised_alone(self) -> dict[int, float]:
        return self._solved_together(self._setting_alone, self.shared)

    def _solved_together(
        self, setting: Callable[[int], Setting], shared: Sequence[Sequence[int]]
    ) -> dict[int, float]:
        """Return the noise of sites whose patients are at several; nothing if none is solved for.

        Args:
            setting: of each site.
            shared: sites that release something of the same patients.

        Raises:
            InputError: if no noise is enough.
        """
        mechanism, budget, delta = self.privacy.mechanism, self.privacy.budget, self.privacy.delta
        if mechanism.noise_multiplier != "auto":
            return {}
        assert budget is not None
        settings = {site: setting(site) for sites in shared for site in sites}
        return noises_together(
            lambda site, noise: _all_rounds(mechanism, settings[site], noise),
            {
                site: _calibrated(mechanism, of_site, budget.epsilon, delta)
                for site, of_site in settings.items()
            },
            shared,
            budget.epsilon,
            delta,
        )


def _shared(scenario: Scenario, population: Population) -> list[tuple[int, ...]]:
    """Return the sites of patients at several of them, the largest sets alone: they spend most."""
    assert scenario.privacy is not None
    if scenario.privacy.mechanism.unit != "patient":
        return []
    numbers = {name: site for site, name in enumerate(population.names)}
    found = [frozenset(part["sites"]) for part in population.shared_patients()]
    return [
        tuple(sorted(numbers[name] for name in sites))
        for sites in found
        if not any(sites < other for other in found)
    ]


@cache
def _calibrated(mechanism: Mechanism, setting: Setting, epsilon: float, delta: float) -> float:
    """Return the least noise with which all rounds of a setting keep to epsilon."""
    return least_noise(partial(_all_rounds, mechanism, setting), epsilon, delta)


def _all_rounds(mechanism: Mechanism, setting: Setting, noise_multiplier: float) -> History:
    return history([(mechanism.release(noise_multiplier, setting).event(), setting.num_rounds)])
