"""Images of a run for its report: drawn where they are at hand and open to anyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsim.errors import FedsimError
from fedsim.report import canvas
from fedsim.report.contact_sheet import contact_sheet, labelled
from fedsim.report.scores import describe
from fedsim.scenario import from_data, open_population

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.records import RunRecord

FILE = "contact_sheet.svg"
IMAGES_IN_A_ROW, MOST_PER_CLASS = 12, 6


def contact_sheet_of(record: RunRecord) -> bytes | None:
    """Return a contact sheet of the training images as SVG.

    It is the one of an earlier report where the images are not at hand now. Images that not
    everyone may see are never drawn, nor those of a run whose privacy is strict: a report is passed
    on, and `fedsim data preview` shows them.
    """
    if (record.scenario.get("privacy") or {}).get("strict"):
        return None
    population = _population(record)
    if population is None:
        earlier = record.folder / "report" / FILE
        return earlier.read_bytes() if earlier.is_file() else None
    if not labelled(population, "train"):
        return None
    per_class = max(2, min(MOST_PER_CLASS, IMAGES_IN_A_ROW // len(population.class_names)))
    return canvas.encode(contact_sheet(population, "train", per_class, describe(record)), "svg")


def _population(record: RunRecord) -> Population | None:
    """Return the sites with their images, if these are the ones that the run saw."""
    try:
        scenario = from_data(record.scenario, "scenario.yaml")
        if not (scenario.data.source.public and scenario.data.source.is_local()):
            return None
        population = open_population(scenario)
    except FedsimError:
        return None
    known = record.population["checksums"]
    same = all(known.get(name) == value for name, value in population.checksums.items())
    return population if same and population.table() == record.population["sites"] else None
