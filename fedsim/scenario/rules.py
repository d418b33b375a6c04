"""What must hold between the sections of a scenario.

Everything here is decided from the scenario alone; what needs the labels is checked by
`fedsim.data.population` before any training starts.
"""

from __future__ import annotations

from collections.abc import Iterator

from clients.metrics import METRICS
from clients.objectives import CrossEntropy
from fedsim.data.normalisation import Standard
from fedsim.data.source import Facts
from fedsim.scenario.cohort import FixedSize
from fedsim.scenario.messages import Problem
from fedsim.scenario.scenario import Scenario


def broken(scenario: Scenario) -> list[Problem]:
    """Return the rules that the scenario breaks."""
    facts = scenario.data.source.facts()
    labels = list(_labels(scenario, facts))
    if labels:
        return labels
    return [
        *_task(scenario),
        *_sites(scenario, facts),
        *_model(scenario, facts),
        *_client(scenario),
        *_evaluation(scenario),
    ]


def _labels(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    data, num_source = scenario.data, len(facts.class_names)
    if data.label_map is not None:
        missing = sorted(set(range(num_source)) - set(data.label_map))
        unknown = sorted(set(data.label_map) - set(range(num_source)))
        if missing or unknown:
            yield Problem(
                ("data", "label_map"),
                f"must map every class of the source, 0 to {num_source - 1}"
                + (f"; missing: {missing}" if missing else "")
                + (f"; not in the source: {unknown}" if unknown else ""),
            )
            return
        targets = sorted(set(data.label_map.values()))
        if targets != list(range(len(targets))):
            yield Problem(
                ("data", "label_map"), f"must map to classes 0, 1, ... without gaps, got {targets}"
            )
            return
    num = num_source if data.label_map is None else len(set(data.label_map.values()))
    if data.class_names is not None and len(data.class_names) != num:
        yield Problem(
            ("data", "class_names"),
            f"the task has {num} classes, but {len(data.class_names)} names are given",
        )


def _task(scenario: Scenario) -> Iterator[Problem]:
    data, num = scenario.data, len(scenario.data.classes)
    if num < 2:
        yield Problem(("data", "label_map"), "leaves one class; a task needs at least two")
    if data.task == "binary" and num != 2:
        yield Problem(
            ("data", "task"),
            f"a binary task has two classes, this one has {num}: "
            "give a label_map to two classes, or task: multiclass or ordinal",
        )
    if data.task == "binary" and data.positive_class >= 2:
        yield Problem(("data", "positive_class"), "must be 0 or 1")


def _sites(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    sites, num_examples = scenario.population, sum(facts.num_examples.values())
    if sites.held_out == "official" and not facts.has_official_splits:
        yield Problem(
            ("population", "held_out"),
            f"{scenario.data.source.kind} has no official splits: "
            "give shares, such as {validation: 0.15, test: 0.2}",
        )
    if sites.num_sites > num_examples:
        yield Problem(
            ("population", "num_sites"),
            f"{sites.num_sites} sites cannot share {num_examples} examples",
        )
    if isinstance(scenario.cohort, FixedSize) and scenario.cohort.num_sites > sites.num_sites:
        yield Problem(
            ("cohort", "num_sites"),
            f"a cohort of {scenario.cohort.num_sites} needs as many sites, "
            f"there are {sites.num_sites}",
        )


def _model(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    if facts.image_size < scenario.model.min_image_size:
        yield Problem(
            ("model",),
            f"{scenario.model.kind} takes images of at least {scenario.model.min_image_size} "
            f"pixels, these have {facts.image_size}: choose a larger data.source.image_size "
            "or another model",
        )
    normalisation = scenario.data.normalisation
    if isinstance(normalisation, Standard):
        for name in ("mean", "std"):
            if len(getattr(normalisation, name)) not in (1, facts.num_channels):
                yield Problem(
                    ("data", "normalisation", name),
                    f"give one value or one per channel ({facts.num_channels})",
                )


def _client(scenario: Scenario) -> Iterator[Problem]:
    objective, num = scenario.client.objective, len(scenario.data.classes)
    if (
        isinstance(objective, CrossEntropy)
        and isinstance(objective.class_weights, tuple)
        and len(objective.class_weights) != num
    ):
        yield Problem(
            ("client", "objective", "class_weights"),
            f"give one weight per class ({num}), got {len(objective.class_weights)}",
        )
    if scenario.client.schedule.warmup_rounds >= scenario.rounds:
        yield Problem(
            ("client", "schedule", "warmup_rounds"),
            f"must be fewer than the {scenario.rounds} rounds",
        )


def _evaluation(scenario: Scenario) -> Iterator[Problem]:
    evaluation, task = scenario.evaluation, scenario.data.task
    suited = [name for name, metric in METRICS.items() if task in metric.tasks]
    for index, name in enumerate(evaluation.metrics):
        if name not in suited:
            why = "is not for this task" if name in METRICS else "is unknown"
            yield Problem(
                ("evaluation", "metrics", index),
                f"{name!r} {why}; for a {task} task: {', '.join(suited)}",
            )
    if len(set(evaluation.metrics)) != len(evaluation.metrics):
        yield Problem(("evaluation", "metrics"), "a metric is listed twice")
    if evaluation.select_by not in evaluation.metrics:
        yield Problem(
            ("evaluation", "select_by"),
            f"{evaluation.select_by!r} must be one of evaluation.metrics "
            f"({', '.join(evaluation.metrics)})",
        )
