"""Leave-one-site-out: each hospital in turn never trains, and is tested on as a whole.

How well will the model do at a hospital that took no part? One run per site answers that, with all
that a run has; each is an ordinary run folder of a scenario that names its `holdout_sites`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fedsim import rho, simulate
from fedsim.data.resampled import Resampled
from fedsim.errors import InputError
from fedsim.execution import Workers
from fedsim.flower.server_app import Watcher
from fedsim.records import RunRecord, read
from fedsim.scenario import Scenario, from_data


def scenarios(scenario: Scenario) -> dict[str, Scenario]:
    """Return for each site the scenario in which it is held out.

    Raises:
        InputError: if the scenario holds out sites already, has only one, or sites that draw
            their examples.
    """
    if isinstance(scenario.population.partition, Resampled):
        raise InputError(
            f"{scenario.name}: sites of the partition resampled have no test images, so none can "
            "be held out; choose a partition that divides the images"
        )
    if scenario.population.holdout_sites:
        raise InputError(
            f"{scenario.name}: population.holdout_sites names sites already; leave it out to hold "
            "out each site in turn"
        )
    names = scenario.site_names
    if len(names) < 2:
        raise InputError(f"{scenario.name}: with one site there is nothing to hold out")
    data = scenario.resolved()
    return {
        name: from_data(
            {**data, "population": {**data["population"], "holdout_sites": [name]}},
            f"{scenario.name} without {name}",
        )
        for name in names
    }


def folder_of(scenario: Scenario, out: str | Path, name: str | None = None) -> Path:
    """Return the folder that gets one run folder per site."""
    whole = simulate.run_folder(scenario, out, name)
    return whole if name else whole.with_name(f"{whole.name}-leave-one-site-out")


def run(
    scenario: Scenario,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "auto",
    keep_every: int | None = None,
    workers: Workers = 1,
    watch: Callable[[str], Watcher] = lambda site: lambda progress: None,
) -> list[RunRecord]:
    """Run the scenario once without each site, going on where an earlier call stopped.

    Args:
        scenario: what to do.
        out: folder that gets the folder of runs.
        name: of that folder; by default the scenario's name and digest.
        device: as in `fedsim.run`; `auto` goes on with a run on the device that it was on.
        keep_every: as in `fedsim.run`.
        workers: as in `fedsim.run`.
        watch: called with the name of a site before its run; returns the run's watcher.

    Returns:
        The finished records in site order.

    Raises:
        InputError: if the scenario cannot hold out each site in turn.
        RunError: if a run fails; calling again goes on there.
    """
    folder, records = folder_of(scenario, out, name), []
    for number, (site, without) in enumerate(scenarios(scenario).items()):
        mine = f"{number:02d}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', site)[:60]}"
        if (folder / mine / "run.json").is_file():
            if not _is_run_of(read(folder / mine), without):
                raise InputError(f"{folder / mine}: is the run of another scenario")
            where = None if device == "auto" else device
            records.append(
                simulate.resume(folder / mine, device=where, workers=workers, watch=watch(site))
            )
        else:
            records.append(
                simulate.run(
                    without,
                    out=folder,
                    name=mine,
                    device=device,
                    keep_every=keep_every,
                    workers=workers,
                    watch=watch(site),
                )
            )
    return records


def _is_run_of(record: RunRecord, scenario: Scenario) -> bool:
    """Return whether a run is of the scenario, with the number that its trials chose for rho."""
    chosen = record.run["chosen"]
    if rho.is_open(scenario) and chosen:
        scenario = rho.with_rho(scenario, chosen["rho"])
    return bool(record.run["digest"] == scenario.digest)
