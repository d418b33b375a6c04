"""Where releases are asked for: refused, or written down and then made."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from dp_accounting.dp_event import DpEvent

from fedsim.flower.private_rounds import PrivateRounds, Releaser
from fedsim.privacy.budget import Guard
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry, entries, made_again
from fedsim.privacy.mechanism import Release
from fedsim.privacy.private_mean import PrivateMean
from fedsim.records import RunFolder


class Desk:
    """Lets sites and server release, and writes each release down before it happens.

    Args:
        rounds: that are planned.
        folder: which has the ledger.
        repeats: whether what was released before a crash is made again to the same bits. Then it
            counts once; otherwise, the noise being another, it is charged again.
    """

    def __init__(self, rounds: PrivateRounds, folder: RunFolder, repeats: bool = True) -> None:
        self._rounds, self._folder, self._repeats = rounds, folder, repeats
        budget, delta = rounds.privacy.budget, rounds.privacy.delta
        self._guard = None if budget is None else Guard(budget.epsilon, delta)
        self._stops_run = budget is not None and budget.on_budget == "stop_run"
        self._stopped = False
        self._out: set[Releaser] = set()
        self._spent: dict[str, Counter[DpEvent]] = {}
        self._begun: set[Entry] = set()
        self._refused: list[str] = []
        self._admitted: list[int] = []

    def open(self) -> None:
        """Begin the ledger of a run: with what it releases unprotected."""
        self._folder.add_releases(entry.row() for entry in self._rounds.unprotected())

    def restore(self, last: int, state: dict[str, Any]) -> None:
        """Go on after a round with what `state` returned then."""
        self._stopped, self._out = state["stopped"], set(state.get("out", ()))
        unit = self._rounds.privacy.mechanism.unit
        made = [e for e in entries(self._folder.releases()) if e.event is not None]
        begun = [entry for entry in made if entry.round > last]
        if not self._repeats or any(made_again(entry) in begun for entry in begun):
            self._folder.add_releases(entry.row() for entry in begun)
            self._begun = set(begun)
        for entry in made:
            anew = entry in self._begun and not self._is_repeated(entry)
            if entry.unit == unit and (entry.round <= last or anew):
                self._note(entry)

    def state(self) -> dict[str, Any]:
        """Return what the ledger does not tell."""
        return {"stopped": self._stopped, "out": sorted(self._out - {None})}

    def admit(self, round: int, cohort: list[int], absent: Sequence[int] = ()) -> list[int]:
        """Return the sites of a cohort whose budget has room for a round.

        Those whose budget had none once train no more; nor do all sites of a round in which who is
        at several of them would overspend.

        Args:
            round: that is to begin.
            cohort: sites that were drawn for it.
            absent: those of them that will not train, and release nothing by themselves.
        """
        self._refused, self._admitted = [], cohort
        if self._guard is None:
            return cohort
        if not self._stopped:
            asking = self._rounds.releasers(cohort)
            self._out |= self._beyond(round, [[one] for one in asking], asking)
            there = [site for site in cohort if site not in absent]
            self._out |= self._beyond(round, self._rounds.shared, there)
        self._stopped |= None in self._out or (bool(self._out) and self._stops_run)
        out = set(cohort) if self._stopped else self._out
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
        due = [self._to_charge(self._rounds.entry(one, round)) for one in releasing]
        self._folder.add_releases(entry.row() for entry in due if entry not in self._begun)
        for entry in due:
            self._note(entry)

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

    def _beyond(
        self, round: int, payers: Iterable[Sequence[Releaser]], asking: Sequence[Releaser]
    ) -> set[Releaser]:
        """Return those for whose releases in a round the budget has no room.

        Args:
            round: that is to begin.
            payers: for each, whose releases it pays for.
            asking: who would release something in this round.
        """
        assert self._guard is not None
        found: set[Releaser] = set()
        for sharing in payers:
            left = [one for one in sharing if one not in self._out]
            now = [one for one in left if one in asking]
            names = tuple(map(self._rounds.name, sharing))
            spent = sum((self._spent.get(name, Counter()) for name in names), Counter[DpEvent]())
            planned = partial(self._planned, round, left, now)
            if now and not self._guard.affords(names, round, spent, planned):
                found.update(now)
        return found

    def _planned(
        self, round: int, left: Sequence[Releaser], now: Sequence[Releaser]
    ) -> dict[int, History]:
        """Return what would be released in a round by some, and later by all that are left."""
        found: dict[int, Counter[DpEvent]] = {}
        for one in left:
            event = history([(self._rounds.release(one).event(), 1)])
            drawn = self._rounds.rounds_of(one)
            later = drawn[bisect_right(drawn, round) :]
            for when in [round, *later] if one in now else later:
                found.setdefault(when, Counter()).update(event)
        return {when: found[when] for when in sorted(found)}

    def _is_repeated(self, begun: Entry) -> bool:
        """Return whether a release of a round that a crash cut off is made again, bit for bit."""
        return self._repeats and made_again(begun) not in self._begun

    def _to_charge(self, entry: Entry) -> Entry:
        """Return what the ledger has of a release, under a purpose of its own if made anew."""
        while entry in self._begun and not self._is_repeated(entry):
            entry = made_again(entry)
        return entry

    def _note(self, entry: Entry) -> None:
        assert entry.event is not None
        name = entry.site or self._rounds.name(None)
        for part, count in history([(entry.event, 1)]).items():
            self._spent.setdefault(name, Counter())[part] += count
