"""What it takes to account for a thousand private rounds of a hundred sites.

    python benchmarks/accounting.py
    python benchmarks/accounting.py --sites 20 --rounds 100

A ledger has a line for each site in each round, ten private steps each. Of sites that are all alike
and of sites that all differ (in q) are measured: the balance of the whole ledger at the end, with
its lines read, epsilon of every site and the checks by other accountants; the same with one site;
the epsilons of all sites alone, at the interval that is used while a run goes on and where many
sites differ; and the budget, asked before each site's every round. Processor seconds of one
process, which begins without anything computed.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent

from fedsim.privacy.accounting import COARSE, epsilon
from fedsim.privacy.balance import balance
from fedsim.privacy.budget import Guard
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry, entries
from results import arguments, write

DELTA, NOISE, STEPS = 1e-5, 1.5, 10
AIM_S = 15.0
Rows = list[dict[str, Any]]


def main() -> None:
    """Measure and write a table."""
    parser = arguments(__doc__)
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args()
    num, rounds = options.sites, options.rounds
    cases = (("one site", 1, False), ("all alike", num, False), ("all different", num, True))
    table = []
    for name, sites, differ in cases:
        seconds = [alone(work, sites, rounds, differ) for work in (read, budget, epsilons, whole)]
        table.append([name, str(sites), *(f"{value:.2f}" for value in seconds)])
    columns = ["sites", "how many", "read the ledger, s", "budget of all rounds, s"]
    columns += ["epsilons at 1e-3, s", "balance, s"]
    note = (
        f"{rounds} rounds of {STEPS} steps. Promised: epsilons of {num} different sites below "
        f"{AIM_S:g} s; sites that are alike cost one."
    )
    write(options.results, "Accounting", columns, table, note=note)


def alone(work: Callable[[int, int, bool], float], *setting: Any) -> float:
    """Return the seconds of some work in a process that has computed nothing before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, setting)


def timed(do: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    do()
    return time.process_time() - start


def events(num_sites: int, differ: bool) -> dict[str, DpEvent]:
    """Return what each site releases in a round."""
    rates = [0.01 * (1 + differ * site / num_sites) for site in range(num_sites)]
    gaussian = dp_event.GaussianDpEvent(NOISE)
    return {
        f"site-{site:03d}": dp_event.SelfComposedDpEvent(
            dp_event.PoissonSampledDpEvent(rate, gaussian), STEPS
        )
        for site, rate in enumerate(rates)
    }


def rows(released: Mapping[str, DpEvent], num_rounds: int) -> Rows:
    """Return the ledger as it is read from a file."""
    made = {
        name: Entry(0, name, "local model", "example", "replace_special", 1000, "0" * 10, event)
        for name, event in released.items()
    }
    plain = {name: entry.row() for name, entry in made.items()}
    return [{**row, "round": round} for round in range(1, num_rounds + 1) for row in plain.values()]


def read(num_sites: int, num_rounds: int, differ: bool) -> float:
    """Return the seconds of reading a ledger."""
    lines = rows(events(num_sites, differ), num_rounds)
    return timed(lambda: entries(lines))


def budget(num_sites: int, num_rounds: int, differ: bool) -> float:
    """Return the seconds of all questions whether a site may take part in a round."""
    released = events(num_sites, differ)
    spent: dict[str, Counter[DpEvent]] = {name: Counter() for name in released}
    guard = Guard(8.0, DELTA)

    def coming(event: DpEvent, round: int) -> dict[int, History]:
        return dict.fromkeys(range(round, num_rounds + 1), history([(event, 1)]))

    def ask() -> None:
        within = dict(released)
        for round in range(1, num_rounds + 1):
            for name, event in list(within.items()):
                if guard.affords(name, round, spent[name], partial(coming, event, round)):
                    for part, count in history([(event, 1)]).items():
                        spent[name][part] += count
                else:
                    del within[name]

    return timed(ask)


def epsilons(num_sites: int, num_rounds: int, differ: bool) -> float:
    """Return the seconds of every site's epsilon."""
    released = events(num_sites, differ).values()
    return timed(lambda: [epsilon(history([(one, num_rounds)]), DELTA, COARSE) for one in released])


def whole(num_sites: int, num_rounds: int, differ: bool) -> float:
    """Return the seconds of a balance, from entries on."""
    found = entries(rows(events(num_sites, differ), num_rounds))
    return timed(lambda: balance(found, DELTA))


if __name__ == "__main__":
    main()
