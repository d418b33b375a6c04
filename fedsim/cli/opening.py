"""From a file named on the command line to its sites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.errors import DataError

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.scenario import Scenario
    from fedsim.scenario.load import Draft


def read(file: Path, changes: list[str] | None) -> Draft:
    """Return the scenario as it is written, with the changes."""
    from fedsim.scenario.load import read_draft

    return read_draft(file, changes or ())


def sites(file: Path, draft: Draft, scenario: Scenario) -> Population:
    """Return the sites of a scenario.

    Raises:
        ScenarioError: naming the place in the file, if the sites cannot do what it asks of them.
        DataError: naming the file, if the data are missing, damaged or too few.
    """
    from fedsim import scenario as scenarios

    try:
        with draft.pointing():
            return scenarios.open_population(scenario)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
