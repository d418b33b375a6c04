"""The fleet in `fedsim plan`: who has what, who is slow, what waits for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsim.cli.quantities import scaled, time

if TYPE_CHECKING:
    from fedsim.fleet.forecast import Crew, Forecast

WAITED_FOR = 5
"""Sites that are named as the last ones."""
BELOW = f"\n{'':14}"


def about_fleet(found: Forecast) -> dict[str, str]:
    """Return what is printed, by title."""
    lengths = (
        time(found.mean_s)
        if found.longest_s < 1.05 * found.shortest_s
        else f"{time(found.shortest_s)} to {time(found.longest_s)}, {time(found.mean_s)} on average"
    )
    return {
        "devices": BELOW.join(map(_crew, found.crews)),
        "virtual time": f"{time(found.seconds)} for all rounds, a round {lengths}; simulated from "
        "operations, bytes and device profiles",
        "work": BELOW.join(_work(found)),
    }


def _crew(crew: Crew) -> str:
    parts = f" in parts of {crew.part_size}" if crew.part_size else ""
    seconds = time(crew.slowest_s)
    if crew.slowest_s > 1.05 * crew.fastest_s:
        seconds = f"{time(crew.fastest_s)} to {seconds} ({crew.slowest})"
    return (
        f"{crew.num_sites} x {crew.device}, {crew.precision}: round 1 in {seconds}; batches of "
        f"{crew.batch_size}{parts} take about {scaled(crew.memory_bytes, 'B')} of "
        f"{scaled(crew.device_bytes, 'B')}"
    )


def _work(found: Forecast) -> list[str]:
    lines = [f"sites work {100 * found.busy_rate:.0f} % of the virtual time"]
    if found.num_late:
        lines.append(f"{found.num_late} updates come too late")
    if found.num_absent:
        lines.append(f"{found.num_absent} times a site is not there")
    if found.mean_staleness:
        lines.append(f"updates start {found.mean_staleness:.2f} models ago on average")
    waits = [f"{name} in {num} rounds" for name, num in found.waits_for.items()]
    listed = ", ".join(waits[:WAITED_FOR]) + ", ..." * (len(waits) > WAITED_FOR)
    return [*lines, f"last to arrive: {listed}"]
