"""What must hold where a real number is learned, and where none is; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedsim.adversaries import LabelFlip
from fedsim.data.source import Facts
from fedsim.errors import DataError
from fedsim.scenario.messages import Problem, nearest
from fedsim.scenario.scenario import Scenario

OR_CLASSES = "or learn classes: task: multiclass (binary, ordinal)"


def broken(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """Yield the rules that a scenario's target breaks."""
    yield from _objective(scenario)
    if scenario.data.task == "regression":
        yield from _target(scenario, facts)
        yield from _of_classes(scenario)
        return
    for key in ("target", "target_range"):
        if getattr(scenario.data, key) is not None:
            yield Problem(
                ("data", key),
                f"is for task: regression, this one is {scenario.data.task}: leave it out",
            )


def _objective(scenario: Scenario) -> Iterator[Problem]:
    objective, task = scenario.client.objective, scenario.data.task
    path = ("client", "objective")
    if task == "regression" and not objective.learns_numbers:
        by = getattr(objective, "criterion", None)
        how = f" with criterion {by}" if by else ""
        yield Problem(
            path,
            f"{objective.kind}{how} learns classes, and this task is a regression: give "
            "{kind: squared_error}, or where sites have bags {kind: bag, criterion: squared} "
            "(instance, interpolated_bag)",
        )
    elif task != "regression" and not objective.learns_classes:
        yield Problem(
            path,
            f"{objective.kind} learns a real number, and this task is {task}: leave it out, give "
            "{kind: cross_entropy}, or task: regression",
        )


def _target(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """The number that is learned must be in the data, and in test sets from elsewhere."""
    target, source = scenario.data.target, scenario.data.source.kind
    if target is None or target not in facts.targets:
        yield Problem(("data", "target"), _absent(target, source, facts.targets))
        return
    for index, part in enumerate(scenario.evaluation.external):
        try:
            there = part.source.facts().targets
        except DataError:
            continue  # told where test sets are
        if target not in there:
            yield Problem(
                ("evaluation", "external", index, "source"),
                _absent(target, part.source.kind, there),
            )


def _absent(target: str | None, source: str, known: Mapping[str, str]) -> str:
    wanted = "a regression learns a real number" if target is None else f"there is no {target!r}"
    if known:
        return f"{wanted}{nearest(target or '', known)}: name one of {', '.join(known)}"
    return (
        f"{wanted}, and the source {source} has none: use synthetic (lesion_area), or images or "
        f"npz with your own `targets`, {OR_CLASSES}"
    )


def _of_classes(scenario: Scenario) -> Iterator[Problem]:
    """What changes classes alone would change nothing that is learned."""
    why = "changes classes, and this task learns a real number"
    if scenario.population.label_noise:
        yield Problem(("population", "label_noise"), f"{why}: leave it out")
    for number, part in enumerate(scenario.population.adversaries):
        if isinstance(part, LabelFlip):
            yield Problem(
                ("population", "adversaries", number),
                f"{part.kind} {why}: use an attack on updates, such as sign_flip",
            )
