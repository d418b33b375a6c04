"""What a study's page says of privacy: utility against epsilon, what is spent, what audits show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.records.audit import alarms, read_audit
from fedsim.report.audit import ALARM
from fedsim.report.document.parts import Block, Cell, Section, Table, Text, num, views, word
from fedsim.report.document.pictures import picture
from fedsim.report.scores import arrowed
from fedsim.report.study import front, tables
from fedsim.report.study.front import Audited
from fedsim.report.study.subject import Study

MOST_SITES = 12
"""Sites up to which the epsilon of each is shown."""
NO_BOUND = "infinite"
DIGITS = ".2f"
"""Of an epsilon."""


def privacy(study: Study) -> Section:
    """Return what was reached for which epsilon, and how patients of several kinds fare."""
    comparison = study.comparison
    spent = comparison.get("epsilon_summary") or ()
    units = dict.fromkeys(row["unit"] for row in spent if row["highest"] is not None)
    audited = list(audits(study))
    pictures: dict[str, Block] = {}
    for unit in units:
        if not any(math.isfinite(arm.epsilon) for arm in front.arms(comparison, unit)):
            continue
        own = [one for of, one in audited if of == unit]
        figure = front.utility(comparison, unit, own, study.name)
        pictures[f"{unit} level"] = picture(figure, front.words(comparison, unit, own))
    found = audit_table([one for _, one in audited])
    blocks = [
        *views("Unit", pictures),
        *study.tables(epsilons),
        *([found] if found else []),
        *study.tables(subgroups),
        *study.tables(subgroup_costs),
    ]
    return Section("privacy", "Privacy", blocks)


def audits(study: Study) -> Iterator[tuple[str, Audited]]:
    """Yield unit and findings of the audited runs."""
    for _, method, content in _audits(study):
        for verdict in content["accounted"]:
            if verdict["epsilon"] is not None:
                yield verdict["unit"], _audited(method, verdict["epsilon"], content["tests"])


def alarmed(study: Study) -> Iterator[Block]:
    """Yield the alarms of the audits of these runs."""
    for run, method, content in _audits(study):
        for alarm in alarms(content):
            said = f"{method}: the audit of run {run} found what cannot be: {alarm}."
            yield Text(said, "warning")


def _audits(study: Study) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield name, method and audit of the audited runs among those that stand for all, once."""
    runs = {
        run.folder.resolve(): method for (method, _), run in study.by_method_and_setting.items()
    }
    for folder, method in runs.items():
        if content := read_audit(folder):
            yield folder.name, method, content


def _audited(method: str, epsilon: float, tests: Mapping[str, Any]) -> Audited:
    shown, ceilings = {}, {}
    for test in front.TESTS:
        findings = tests[test]["findings"] if test in tests else ()
        if bounds := [one["epsilon"] for one in findings if one["epsilon"] is not None]:
            shown[test] = max(bounds)
        if most := [one["ceiling"] for one in findings if one["ceiling"] is not None]:
            ceilings[test] = max(most)
    alarming = {name for name, outcome in tests.items() if alarms({"tests": {name: outcome}})}
    return Audited(method, epsilon, shown, ceilings, frozenset(alarming))


def epsilons(comparison: tables.Comparison, setting: str) -> Table | None:
    """Return what each method spends, and at which sites."""
    found = tables.of_setting(comparison, "epsilon_summary", setting)
    if not found:
        return None
    by_site = tables.of_setting(comparison, "epsilons", setting)
    seed = comparison["seeds"][0]
    rows = [
        [
            word(row["method"]),
            word(row["unit"]),
            Cell(f"{row['delta']:g}", row["delta"]),
            _epsilon(row["highest"]),
            _epsilon(row["lowest"]),
            word(_sites([r for r in by_site if _is_of(r, row) and r["seed"] == seed])),
            num(row["num_seeds"]),
        ]
        for row in found
    ]
    return Table(
        "What is spent",
        (
            "method",
            "unit",
            "delta",
            "epsilon: largest site",
            "smallest site",
            f"site by site, seed {seed}",
            "seeds",
        ),
        rows,
        "Over all sites and seeds, rounded upwards. Each is the epsilon of one run with its "
        f"values: {_not_accounted(comparison)} Methods that are not listed hide nothing.",
    )


def audit_table(audited: list[Audited]) -> Table | None:
    """Return what audits of single runs showed, beside what their ledgers say."""
    rows = [
        [
            word(one.method),
            _epsilon(one.epsilon),
            word(test),
            _bound(one.shown.get(test), rounded_down),
            _bound(one.ceilings.get(test), rounded_up),
            Cell(ALARM, 1, "bad") if test in one.alarming else Cell("", 0),
        ]
        for one in audited
        for test in front.TESTS
        if test in one.shown or test in one.ceilings or test in one.alarming
    ]
    if not rows:
        return None
    return Table(
        "What audits found",
        ("method", "epsilon by ledger", "test", "epsilon is at least", "can show at most", ""),
        rows,
        "Of one run each, the largest bound of any figure with 95 % confidence; the page of that "
        "run has them all. No figure says that an epsilon is small.",
    )


def subgroups(comparison: tables.Comparison, setting: str) -> Table | None:
    """Return the primary metric by groups of patients, and the gap between them."""
    found = tables.of_setting(comparison, "subgroups", setting)
    if not found:
        return None
    rows = [
        [
            word(row["method"]),
            word(row["attribute"]),
            word("gap" if row["group"] is None else row["group"]),
            tables.interval(row["mean"], row["low"], row["high"]),
            num(row["num_seeds"]),
        ]
        for row in found
    ]
    return Table(
        f"{arrowed(comparison['primary']['metric'])} by groups of test images",
        ("method", "attribute", "group", "mean [interval]", "seeds"),
        rows,
        "Images of all sites together. Gap: between the best and the worst group of each seed, "
        "which chance alone keeps above zero, the more the lower the values are: compare it only "
        "between methods of a similar level.",
    )


def subgroup_costs(comparison: tables.Comparison, setting: str) -> Table | None:
    """Return what methods change for groups of patients, and for whom they change more."""
    found = tables.of_setting(comparison, "subgroup_costs", setting)
    if not found:
        return None
    primary = comparison["primary"]
    rows = [
        [
            word(row["method"]),
            word(row["attribute"]),
            word(row["group"]),
            word(tables.NONE if row["versus"] is None else row["versus"]),
            tables.interval(row["mean"], row["low"], row["high"], signed=True),
            num(row["num_seeds"]),
        ]
        for row in found
    ]
    return Table(
        f"Change of {arrowed(primary['metric'])} against {primary['reference']} by groups",
        ("method", "attribute", "group", "minus that of", "mean [interval]", "seeds"),
        rows,
        "Method minus reference on the images of a group, same seed; then by how much that differs "
        "from the change of another group, which noise does not move away from zero. "
        f"{100 * primary.get('confidence', 0.95):.0f} % intervals (Student's t) over seeds, not "
        "corrected for their number and no tests; other test images are another source of chance. "
        "Equal harm is no equal change: a group whose value is close to the best possible has less "
        "room, so that a difference of changes may come from the level where the groups start.",
    )


def _is_of(row: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    return (row["method"], row["unit"]) == (summary["method"], summary["unit"])


def _sites(rows: list[Mapping[str, Any]]) -> str:
    """Return the epsilons of a run's sites in their order, nothing where they are too many."""
    if not 1 < len(rows) <= MOST_SITES:
        return tables.NONE
    return ", ".join(_epsilon(row["epsilon"]).text for row in rows)


def _epsilon(found: float | None) -> Cell:
    """Return what is promised."""
    return Cell(NO_BOUND if found is None else rounded_up(found, DIGITS), found)


def _bound(found: float | None, rounded: Callable[[float, str], str]) -> Cell:
    """Return what a test shows, or can show."""
    return Cell(tables.NONE if found is None else rounded(found, DIGITS), found)


def _not_accounted(comparison: tables.Comparison) -> str:
    """Return what composes with the epsilon of one run, and is not in it."""
    trials = max((row["num_trials"] for row in comparison.get("tuned") or ()), default=0)
    tuning = f"that these were chosen among {trials} trials on the same images, " * (trials > 1)
    return f"{tuning}and that several seeds are looked at, is not accounted."
