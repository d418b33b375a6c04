"""Which bag size is best at every epsilon of label privacy: as measured, and as theory has it.

The theory is that of a linear model (`fedsim.bag_theory`), with levels of signal and noise that
whoever makes the page assumes: nothing is estimated from labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedsim.bag_advice import Assumed, best_size
from fedsim.data.supervision import InBags
from fedsim.privacy.label import Relation
from fedsim.records import RunRecord
from fedsim.report.study.varied import Slice

SIZE, EPSILON = ".bag_size", ".label_privacy.epsilon"
"""How the key paths of the two numbers end."""
HIDES: Mapping[Relation, str] = {
    "replace_one": "that one image's label is another one",
    "zero_out": "that one image's label counts for nothing",
}
"""Neighbouring relation -> what is promised."""


@dataclass(frozen=True)
class BagSizes:
    """What a map over bag sizes and epsilons is marked with.

    Args:
        axis: which of the two numbers is epsilon.
        note: how to read the marks.
        by_theory: method -> epsilon -> the best of the sizes that are mapped; empty if nothing is
            assumed.
    """

    axis: int
    note: str
    by_theory: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    def lines(self, part: Slice) -> Iterator[NDArray[np.bool_]]:
        """Yield the cells of each epsilon, (up, across)."""
        shape = len(part.along(1)), len(part.along(0))
        for number in range(len(part.along(self.axis))):
            yield np.indices(shape)[1 - self.axis] == number

    def advised(self, part: Slice, method: str) -> Iterator[tuple[int, int]]:
        """Yield the cells, (across, up), that theory calls best."""
        epsilons, sizes = part.along(self.axis), part.along(1 - self.axis)
        for epsilon, size in self.by_theory.get(method, {}).items():
            cell = epsilons.index(epsilon), sizes.index(size)
            yield cell if self.axis == 0 else (cell[1], cell[0])

    def words(self) -> str:
        """Return what theory says; nothing if it says nothing."""
        said = (
            f"{method}: " + ", ".join(f"{size:g} at epsilon {e:g}" for e, size in best.items())
            for method, best in self.by_theory.items()
        )
        told = "; ".join(said)
        return f" Best bag size by theory: {told}." if told else ""


def of_bags(
    part: Slice, runs: Mapping[tuple[str, str], RunRecord], assumed: Assumed | None
) -> BagSizes | None:
    """Return the marks of a map; None unless it is of bag sizes and an epsilon.

    Args:
        part: whose numbers are mapped.
        runs: one of each method and setting.
        assumed: of the responses; None for no theory.
    """
    ends = [next((end for end in (SIZE, EPSILON) if k.endswith(end)), "") for k in part.keys]
    if sorted(ends) != sorted((SIZE, EPSILON)):
        return None
    axis = ends.index(EPSILON)
    hides, by_theory = "", dict[str, dict[float, float]]()
    for (method, setting), run in runs.items():
        entry = _bags_of(run)
        if setting not in part.settings or entry is None:
            continue
        if entry.label_privacy is not None:
            hides = HIDES[entry.label_privacy.relation]
        epsilon = part.settings[setting][axis]
        if assumed is None or epsilon in by_theory.get(method, {}):
            continue
        size = _by_theory(run, entry, [int(size) for size in part.along(1 - axis)], assumed)
        if size is not None:
            by_theory.setdefault(method, {})[epsilon] = float(size)
    note = "The best bag size at each epsilon is framed."
    note += f" Epsilon is label-DP at each site, which hides {hides}." if hides else ""
    if by_theory and assumed is not None:
        d = assumed.num_dimensions
        note += (
            " Diamonds: the size of least risk by theory, for the method's rho or (where it has "
            "none) the best, of a linear model with squared loss, random bags and one site; "
            f"assumed are signal {assumed.signal:g}, noise {assumed.noise:g} and "
            f"{'as many dimensions as pixels' if d is None else f'{d} dimensions'}. The networks "
            "here are another matter: compare the direction."
        )
    return BagSizes(axis, note, by_theory)


def _bags_of(run: RunRecord) -> InBags | None:
    """Return what the sites of a run know of bags; None unless that is one thing for all.

    None too where it has parts that are not installed here.
    """
    written = [e for e in run.scenario["population"]["supervision"] if e["kind"] == "bags"]
    try:
        (entry,) = map(InBags.model_validate, written)
    except ValueError:
        return None
    return entry


def _by_theory(run: RunRecord, entry: InBags, sizes: list[int], assumed: Assumed) -> int | None:
    """Return which of some sizes theory calls best for a run's loss and noise, if it says so."""
    known = run.population["knowledge"]
    images = run.population["images"]
    return best_size(
        entry,
        run.scenario["client"]["objective"],
        sizes,
        num_classes=len(run.population["class_names"]),
        num_examples=sum(
            sum(site["train"])
            for site in run.population["sites"]
            if known.get(site["name"], {}).get("knows") == "bags"
        ),
        num_pixels=images["num_channels"] * images["image_size"] ** 2,
        assumed=assumed,
    )
