"""The page of a study: the question, what was found, and all that the answer rests on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.records import RunRecord
from fedsim.records.examples import examples
from fedsim.records.study import StudyRecord
from fedsim.report.document import provenance
from fedsim.report.document.alternatives import alternative
from fedsim.report.document.parts import (
    Block,
    Code,
    Document,
    Facts,
    Section,
    Sentences,
    Table,
    Text,
    views,
    word,
)
from fedsim.report.document.pictures import photograph, picture
from fedsim.report.document.words import in_words, without_places
from fedsim.report.figures import label_distribution
from fedsim.report.samples import contact_sheet_of
from fedsim.report.study import forest, joining, learning, probabilities, ranks, tables
from fedsim.report.study.learning import Curve
from fedsim.report.study.looks import titled
from fedsim.report.tables import number


@dataclass(frozen=True)
class Study:
    """A study as its page needs it.

    Args:
        record: of the study.
        comparison: of its runs; empty until it is made.
    """

    record: StudyRecord
    comparison: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How figures call it."""
        record = self.record
        return f"{record.study['name']} · {len(record.methods)} methods · {len(record.seeds)} seeds"

    @property
    def settings(self) -> Sequence[str]:
        """What the methods are compared in."""
        return self.record.settings

    @cached_property
    def by_method_and_setting(self) -> dict[tuple[str, str], RunRecord]:
        """One run of each."""
        return examples(self.record)

    @property
    def examples(self) -> list[RunRecord]:
        """One run of each method and setting."""
        return list(self.by_method_and_setting.values())

    @property
    def by_setting_alone(self) -> dict[str, RunRecord]:
        """One run of each setting."""
        last_first = reversed(self.by_method_and_setting.items())
        found = {setting: run for (_, setting), run in last_first}
        return {setting: found[setting] for setting in self.settings if setting in found}

    @cached_property
    def curves(self) -> dict[str, dict[str, Curve]]:
        """Learning curves by setting and method."""
        return learning.learning(self.record, self.comparison["primary"]["metric"])

    def by_setting(
        self, make: Callable[[Mapping[str, Any], str], Table | None]
    ) -> dict[str, Block]:
        """Return a table for each setting that has one."""
        made = {setting: make(self.comparison, setting) for setting in self.settings}
        return {titled(setting): table for setting, table in made.items() if table is not None}

    def rows(self, part: str, setting: str) -> list[Mapping[str, Any]]:
        """Return the rows of a part of the comparison that belong to a setting."""
        return tables.of_setting(self.comparison, part, setting)


def document(study: Study) -> Document:
    """Return the page of a study."""
    record = study.record
    sections = SECTIONS if study.comparison else BEFORE
    return Document(
        title=record.study["question"],
        kicker="fedsim study",
        lead=_lead(record),
        summary=list(_summary(study)),
        sections=[section(study) for section in sections],
        footer=f"Made by {provenance.version(next(iter(study.examples), None))} from the record "
        f"of study {record.folder.name}.",
    )


def _lead(record: StudyRecord) -> str:
    analysis = record.analysis
    return (
        f"Study {record.study['name']}: {METRICS[analysis['metric']].title} on {analysis['split']} "
        f"images, {'all sites pooled' if analysis['pooled'] else 'mean over sites'}; every method "
        f"against {analysis['reference']}, same seeds."
    )


def _summary(study: Study) -> Iterator[Block]:
    record = study.record
    done = sum(cell.status == "done" for cell in record.cells)
    failed = len(record.cells) - done
    facts = {
        f"methods in {len(record.settings)} setting{'s' * (len(record.settings) != 1)}": str(
            len(record.methods)
        ),
        "seeds of each": str(len(record.seeds)),
        "runs done": f"{done:,}",
    }
    if failed:
        facts["runs failed"] = f"{failed:,}"
    metric = METRICS[record.analysis["metric"]].title
    facts[f"smallest difference of interest in {metric}"] = (
        f"{record.analysis['smallest_difference_of_interest']:g}"
    )
    yield Facts(facts, large=True)
    if not study.comparison:
        yield Text(
            "This study is not finished: its runs have not been compared yet. "
            f"So far {done:,} runs are done and {failed:,} failed.",
            "warning",
        )


def _answer(study: Study) -> Section:
    comparison, metric = study.comparison, study.comparison["primary"]["metric"]
    by_setting: dict[str, Block] = {}
    if len(study.settings) > 1:
        for setting in study.settings:
            rows = study.rows("differences", setting)
            found = [row["sentence"] for row in rows if row["metric"] == metric]
            if said := [sentence for sentence in comparison["sentences"] if sentence in found]:
                by_setting[titled(setting)] = Sentences(said)
    told = {text for part in by_setting.values() for text in part.sentences}  # type: ignore[union-attr]
    others = [text for text in comparison["sentences"] if text not in told]
    blocks = [*views("Setting", by_setting), *([Sentences(others)] if others else [])]
    return Section("answer", "What was found", blocks)


def _differences(study: Study) -> Section:
    comparison = study.comparison
    blocks = list(views("Setting", study.by_setting(tables.methods)))
    if any(row["metric"] == comparison["primary"]["metric"] for row in comparison["differences"]):
        figure = forest.forest(comparison, study.name)
        blocks.append(picture(figure, _forest_words(comparison)))
    blocks += views("Setting", study.by_setting(tables.resampled))
    blocks += views("Setting", study.by_setting(tables.metrics))
    return Section("methods", "Methods compared", blocks)


def _learning(study: Study) -> Section:
    tabs = {
        titled(setting): block
        for setting, curves in study.curves.items()
        for block in views("Axis", _axes(study, curves))
    }
    return Section("learning", "Learning", views("Setting", tabs))


def _axes(study: Study, curves: Mapping[str, Curve]) -> dict[str, Block]:
    """Return the curves of a setting by round and, with a virtual clock, by time."""
    words, timed = _curve_words(curves, study.comparison), all(c.ends for c in curves.values())
    return {
        title: picture(
            learning.curves(curves, study.comparison, study.name, over_time=over_time), words
        )
        for title, over_time in (("By round", False), ("By virtual time", True))[: 1 + timed]
    }


def _costs(study: Study) -> Section:
    return Section("costs", "Time and traffic", [*views("Setting", study.by_setting(tables.costs))])


def _fairness(study: Study) -> Section:
    blocks = [
        block
        for make in (tables.fairness, tables.yardsticks)
        for block in views("Setting", study.by_setting(make))
    ]
    return Section("fairness", "Worst site and yardsticks", blocks)


def _ranks(study: Study) -> Section:
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


def _join(study: Study) -> Section:
    pictures: dict[str, Block] = {}
    for setting in study.settings:
        rows = [row for row in study.rows("join", setting) if row["site"] != POOLED]
        if rows:
            figure = joining.joining(rows, study.comparison, study.name)
            pictures[titled(setting)] = picture(figure, _join_words(rows, study.comparison))
    blocks = [
        *views("Setting", pictures),
        *views("Setting", study.by_setting(tables.join)),
    ]
    return Section("join", "Should my hospital join?", blocks)


def _probabilities(study: Study) -> Section:
    believed: dict[str, Block] = {}
    useful: dict[str, Block] = {}
    for setting in study.settings:
        rows = [row for row in study.rows("calibration", setting) if row["bins"]]
        if rows:
            figure = probabilities.calibration(rows, study.comparison, study.name)
            errors = ", ".join(f"{row['method']} {number(row['ece'])}" for row in rows)
            believed[titled(setting)] = picture(
                figure, f"Reliability diagram. Calibration error of the decided class: {errors}."
            )
        if rows := study.rows("decision_curves", setting):
            figure = probabilities.decision_curves(rows, study.comparison, study.name)
            useful[titled(setting)] = picture(figure, _decision_words(rows))
    return Section(
        "probabilities",
        "Calibration and clinical use",
        [*views("Setting", believed), *views("Setting", useful)],
    )


def _setup(study: Study) -> Section:
    written = without_places(study.record.study)
    methods = Table(
        "Methods",
        ("method", "description", "sets", "tunes"),
        [
            [
                word(name),
                word(said.get("description") or tables.NONE),
                word(_said(said.get("set")) or tables.NONE),
                word(", ".join(said.get("tune") or {}) or tables.NONE),
            ]
            for name, said in written["methods"].items()
        ],
    )
    blocks: list[Block] = [methods]
    if study.examples:
        first = study.examples[0]
        skipped = ("Seed", "Local objective", "Aggregation", "Server optimiser")
        words = in_words(first.scenario, first.population)
        blocks.append(
            Text("The rest, as the first run has it; tuned values differ between methods:")
        )
        blocks.append(Facts({k: v for k, v in words.items() if k not in skipped}))
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True)
    return Section("setup", "Set-up", [*blocks, Code("The whole study file (YAML)", text)])


def _population(study: Study) -> Section:
    runs = {titled(setting): run for setting, run in study.by_setting_alone.items()}
    sheets: dict[str, Block] = {
        setting: photograph(sheet, alternative("contact_sheet", run))
        for setting, run in runs.items()
        if (sheet := contact_sheet_of(run)) is not None
    }
    classes: dict[str, Block] = {
        setting: picture(label_distribution(run), alternative("label_distribution", run))
        for setting, run in runs.items()
    }
    counts: dict[str, Block] = {
        setting: tables.population(run.population, run.scenario["seed"])
        for setting, run in runs.items()
    }
    blocks = [block for tabs in (sheets, classes, counts) for block in views("Setting", tabs)]
    return Section("population", "Population", blocks)


def _tuning(study: Study) -> Section:
    table = tables.tuned(study.comparison)
    return Section("tuning", "Tuning", [table] if table else [])


def _power(study: Study) -> Section:
    table = tables.power(study.comparison)
    return Section("power", "Power", [table] if table else [])


def _failures(study: Study) -> Section:
    failed = [
        {"cell": cell.cell, "error": cell.error}
        for cell in study.record.cells
        if cell.status != "done"
    ]
    known = {row["cell"] for row in failed}
    more = [row for row in study.comparison.get("failures", ()) if row["cell"] not in known]
    table = tables.failures([*failed, *more])
    return Section("failures", "Failures", [table] if table else [])


def _environment(study: Study) -> Section:
    if not study.examples:
        return Section("environment", "Environment", [])
    return provenance.environment(study.examples)


def _citations(study: Study) -> Section:
    if not study.examples:
        return Section("citations", "What to cite", [])
    return provenance.references(study.examples)


def _repeat(study: Study) -> Section:
    command = f"fedsim study {shlex.quote(study.record.folder.name)}"
    return Section(
        "repeat",
        "Run it again",
        [
            Code(
                "From where the study folder lies; runs that are there are not run again:", command
            ),
            Text("On the same hardware and versions every run gives the same bits.", "note"),
        ],
    )


def _said(values: Mapping[str, Any] | None) -> str:
    return "; ".join(f"{key}: {_plain(value)}" for key, value in (values or {}).items())


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _forest_words(comparison: Mapping[str, Any]) -> str:
    primary = comparison["primary"]
    words = [
        f"{row['method']} in {row['setting']} {row['mean']:+.3f}, {row['verdict']}"
        for row in comparison["differences"]
        if row["metric"] == primary["metric"] and row["mean"] is not None
    ]
    return (
        f"Forest plot of the differences to {primary['reference']} in "
        f"{METRICS[primary['metric']].title} with their intervals: {'; '.join(words)}."
    )


def _curve_words(curves: Mapping[str, Curve], comparison: Mapping[str, Any]) -> str:
    title = METRICS[comparison["primary"]["metric"]].title
    ends = ", ".join(f"{method} {curve.mean[-1]:.3f}" for method, curve in curves.items())
    return f"Lines of {title} on validation images by method, mean over seeds. At the end: {ends}."


def _join_words(rows: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any]) -> str:
    gains = [row["gain_over_alone"] for row in rows if row["gain_over_alone"] is not None]
    span = f" from {min(gains):+.3f} to {max(gains):+.3f}" if gains else ""
    return (
        f"Dots with intervals of what each site gains over training alone, by method, in "
        f"{METRICS[comparison['primary']['metric']].title}:{span}."
    )


def _decision_words(rows: Sequence[Mapping[str, Any]]) -> str:
    middle = len(rows[0]["thresholds"]) // 2
    words = ", ".join(f"{row['method']} {number(row['net_benefit'][middle])}" for row in rows)
    return (
        "Decision curves: net benefit by the probability from which on one treats. At "
        f"{rows[0]['thresholds'][middle]:g}: {words}, treating everybody "
        f"{number(rows[0]['treat_all'][middle])}."
    )


BEFORE: tuple[Callable[[Study], Section], ...] = (
    _setup,
    _population,
    _failures,
    _environment,
    _citations,
    _repeat,
)
"""The sections of a study that is not compared yet."""
SECTIONS: tuple[Callable[[Study], Section], ...] = (
    _answer,
    _differences,
    _learning,
    _ranks,
    _costs,
    _fairness,
    _join,
    _probabilities,
    _setup,
    _population,
    _tuning,
    _power,
    _failures,
    _environment,
    _citations,
    _repeat,
)
"""The sections of the page in order; one that has nothing to show is left out."""
