"""The sections of a study's page that answer its question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.yardsticks import called
from fedsim.data.source import POOLED
from fedsim.report.document.parts import Block, Section, Sentences, Table, Text, views, word
from fedsim.report.document.pictures import picture
from fedsim.report.study import (
    alternatives,
    bag_sizes,
    forest,
    joining,
    learning,
    maps,
    probabilities,
    ranks,
    tables,
    varied,
)
from fedsim.report.study.learning import Curve
from fedsim.report.study.subject import Study
from fedsim.report.tables import number

NO_PROBABILITIES = (
    "The models predict a number and no probabilities, so there is neither a reliability diagram "
    "nor a decision curve."
)


def answer(study: Study) -> Section:
    """Return what was found, in sentences."""
    comparison, metric = study.comparison, study.comparison["primary"]["metric"]
    by_setting: dict[str, Block] = {}
    if len(study.settings) > 1:
        for setting in study.settings:
            rows = study.rows("differences", setting)
            found = [row["sentence"] for row in rows if row["metric"] == metric]
            if said := [sentence for sentence in comparison["sentences"] if sentence in found]:
                by_setting[setting] = Sentences(said)
    told = {text for part in by_setting.values() for text in part.sentences}  # type: ignore[union-attr]
    others = [text for text in comparison["sentences"] if text not in told]
    blocks = [*study.by_setting(by_setting), *([Sentences(others)] if others else [])]
    return Section("answer", "What was found", blocks)


def differences(study: Study) -> Section:
    """Return how the methods compare to the reference."""
    comparison = study.comparison
    blocks = list(study.tables(tables.methods))
    if any(row["metric"] == comparison["primary"]["metric"] for row in comparison["differences"]):
        figure = forest.forest(comparison, study.name)
        blocks.append(picture(figure, alternatives.of_forest(comparison)))
    blocks += study.tables(tables.resampled)
    blocks += study.tables(tables.metrics)
    return Section("methods", "Methods compared", blocks)


def against_numbers(study: Study) -> Section:
    """Return how the methods do against the numbers that the study varies."""
    lines: dict[str, Block] = {}
    settings, comparison = study.record.varied, study.comparison
    for part in varied.slices(settings, 1):
        figure = varied.line(part, comparison, study.name)
        lines[part.title] = picture(figure, varied.words(part, comparison))
    for part in varied.slices(settings, 2):
        sizes = bag_sizes.of_bags(part, study.by_method_and_setting, study.assumed)
        figure = maps.maps(part, comparison, study.name, sizes)
        words = varied.words(part, comparison) + (sizes.words() if sizes else "")
        lines[part.title] = picture(figure, words)
    return Section("varied", "Against what is varied", list(views("Figure", lines)))


def learning_curves(study: Study) -> Section:
    """Return how the methods learn, round by round."""
    made = {
        setting: block
        for setting, curves in study.curves.items()
        for block in views("Axis", _axes(study, curves))
    }
    return Section("learning", "Learning", study.by_setting(made))


def _axes(study: Study, curves: Mapping[str, Curve]) -> dict[str, Block]:
    """Return the curves of a setting by round and, with a virtual clock, by time."""
    words, timed = (
        alternatives.of_curves(curves, study.comparison),
        all(c.ends for c in curves.values()),
    )
    return {
        title: picture(
            learning.curves(curves, study.comparison, study.name, over_time=over_time), words
        )
        for title, over_time in (("By round", False), ("By virtual time", True))[: 1 + timed]
    }


def costs(study: Study) -> Section:
    """Return what the methods take."""
    return Section("costs", "Time and traffic", [*study.tables(tables.costs)])


def fairness(study: Study) -> Section:
    """Return what the worst site gets, and the yardsticks."""
    blocks = [
        block for make in (tables.fairness, tables.yardsticks) for block in study.tables(make)
    ]
    return Section("fairness", "Worst site and yardsticks", blocks)


def mean_ranks(study: Study) -> Section:
    """Return the ranks of the methods."""
    comparison = study.comparison
    found = comparison["ranks"]
    if not found:
        return Section("ranks", "Ranks", [])
    if comparison["critical_difference"] is not None:
        words = ", ".join(f"{row['method']} {row['mean_rank']:.2f}" for row in found)
        figure = ranks.critical_difference(comparison, study.name)
        return Section("ranks", "Ranks", [picture(figure, f"Mean ranks: {words}.")])
    table = Table(
        "Mean rank of each method, 1 is best",
        ("method", "mean rank"),
        [
            [word(row["method"]), tables.value(row["mean_rank"])]
            for row in sorted(found, key=lambda row: row["mean_rank"])
        ],
        comparison["rank_note"],
    )
    return Section("ranks", "Ranks", [table])


def join(study: Study) -> Section:
    """Return what each site gains by taking part."""
    drawn = {
        setting: block
        for setting in study.settings
        for block in views("Against", _joining(study, setting))
    }
    blocks = [
        *study.by_setting(drawn),
        *study.tables(tables.join),
    ]
    return Section("join", "Should my hospital join?", blocks)


def _joining(study: Study, setting: str) -> dict[str, Block]:
    """Return what is gained in a setting over each of the models that sites train alone."""
    by_alone: dict[str, list[Mapping[str, Any]]] = {}
    for row in study.rows("join", setting):
        if row["site"] != POOLED:
            by_alone.setdefault(called(row, study.comparison), []).append(row)
    return {
        alone: picture(
            joining.joining(rows, study.comparison, study.name, alone),
            alternatives.of_joining(rows, study.comparison, alone),
        )
        for alone, rows in by_alone.items()
    }


def clinical_use(study: Study) -> Section:
    """Return whether probabilities are to be believed, and of use in a clinic."""
    title = "Calibration and clinical use"
    if "regression" in METRICS[study.comparison["primary"]["metric"]].tasks:
        return Section("probabilities", title, [Text(NO_PROBABILITIES, "note")])
    believed: dict[str, Block] = {}
    useful: dict[str, Block] = {}
    for setting in study.settings:
        rows = [row for row in study.rows("calibration", setting) if row["bins"]]
        if rows:
            figure = probabilities.calibration(rows, study.comparison, study.name)
            errors = ", ".join(f"{row['method']} {number(row['ece'])}" for row in rows)
            believed[setting] = picture(
                figure, f"Reliability diagram. Calibration error of the decided class: {errors}."
            )
        if rows := study.rows("decision_curves", setting):
            figure = probabilities.decision_curves(rows, study.comparison, study.name)
            useful[setting] = picture(figure, alternatives.of_decision_curves(rows))
    return Section(
        "probabilities",
        title,
        [*study.by_setting(believed), *study.by_setting(useful)],
    )
