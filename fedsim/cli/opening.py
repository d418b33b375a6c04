"""From a file named on the command line to its sites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.errors import DataError, InputError

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.scenario import Scenario
    from fedsim.scenario.load import Draft


def read(file: Path, changes: list[str] | None) -> Draft:
    """Return the scenario as it is written, with the changes.

    Raises:
        InputError: if the file is a study.
    """
    from fedsim.scenario.load import read_draft
    from fedsim.study.load import is_of_study

    draft = read_draft(file, changes or ())
    if is_of_study(draft):
        raise InputError(f"{file}: is a study; expected a scenario. Run it with `fedsim study`")
    return draft


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
