"""The page of a run: what was asked and done, what came out, where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from clients.metrics import METRICS
from fedsim.report import privacy, rows, tables
from fedsim.report.document import audit, provenance
from fedsim.report.document.parts import (
    Block,
    Cell,
    Code,
    Document,
    Facts,
    Picture,
    Section,
    Sentences,
    Table,
    Text,
    num,
    size,
    views,
    word,
)
from fedsim.report.document.words import in_words, without_places
from fedsim.report.scores import Scores, arrowed, describe, eligible, of_class, tested_sites
from fedsim.report.timeline import Unit, clock, computing_share

if TYPE_CHECKING:
    from fedsim.records import RunRecord

SPLITS = {"train": "Training", "validation": "Validation", "test": "Test"}

COLUMNS = (
    "metric",
    "method",
    "pooled",
    "site mean ± sd",
    "worst site",
    "gap",
    "model",
    "n",
    "sites",
)
"""Headings of the results table, those first that a narrow screen shows."""


@dataclass(frozen=True)
class Run:
    """A run with the figures that its record has data for.

    Args:
        record: of the run.
        pictures: figures by name, as `fedsim.report.figures.draw` names them.
    """

    record: RunRecord
    pictures: Mapping[str, Picture]

    def shown(self, titles: Mapping[str, str]) -> dict[str, Block]:
        """Return the pictures that there are by title, of those named."""
        return {
            title: self.pictures[name] for name, title in titles.items() if name in self.pictures
        }


def document(run: Run) -> Document:
    """Return the page of a run."""
    record = run.record
    return Document(
        title=record.scenario["name"],
        kicker="fedsim run",
        lead=record.scenario["description"],
        summary=list(_summary(record)),
        sections=[section(run) for section in SECTIONS],
        footer=f"Made by {provenance.version(record)} from the record of run "
        f"{record.run['digest'][:10]}.",
    )


def _summary(record: RunRecord) -> Iterator[Block]:
    final = [
        row
        for row in rows.results(record)
        if (row.metric, row.method, row.model) == (record.selection.metric, "federated", "final")
    ]
    scenario, sent = (
        record.scenario,
        sum(row["bytes_down"] + row["bytes_up"] for row in record.rounds),
    )
    figures = {}
    for row in final:
        title = METRICS[row.metric].title
        interval = f", 95 % interval {tables.number(row.low)} to {tables.number(row.high)}"
        figures[f"pooled test {title}" + interval * (row.low is not None)] = tables.number(
            row.pooled
        )
        if row.worst_site is not None:
            figures[f"{title} at the worst site, {row.worst_site}"] = tables.number(row.worst)
    figures["rounds done"] = f"{record.selection.final_round} of {scenario['rounds']}"
    figures["sent in all, both ways"] = size(sent)
    if ends := clock(record):
        unit = Unit.suited(max(ends.values()))
        figures["virtual time"] = f"{max(ends.values()) / unit.seconds:.1f} {unit.name}"
    yield Facts(figures, large=True)
    yield Text(f"{describe(record)}.", "note")
    if record.selection.final_round < scenario["rounds"]:
        yield Text("This run is not finished; what it has so far is shown.", "warning")
    for warning in tables.warnings(record):
        yield Text(plain(warning), "warning")
    yield from audit.alarmed(record)


def _setup(run: Run) -> Section:
    scenario = run.record.scenario
    written = yaml.safe_dump(without_places(scenario), sort_keys=False, allow_unicode=True)
    return Section(
        "setup",
        "Set-up",
        [
            Facts(in_words(scenario, run.record.population)),
            Code("The whole scenario, with every default written out (YAML)", written),
        ],
    )


def _population(run: Run) -> Section:
    population = run.record.population
    counts: dict[str, Block] = {
        title: _counts(population, split, title)
        for split, title in SPLITS.items()
        if any(sum(site[split]) for site in population["sites"])
    }
    pictures = run.shown({"contact_sheet": "Images", "label_distribution": "Classes"})
    return Section(
        "population",
        "Population",
        [*views("The sites in pictures", pictures), *views("Images by site and class", counts)],
    )


def _counts(population: Mapping[str, Any], split: str, title: str) -> Table:
    """Return the table of site by class."""
    return Table(
        f"{title} images by site and class",
        ("site", *population["class_names"], "all"),
        [
            [word(site["name"]), *map(num, site[split]), num(sum(site[split]))]
            for site in population["sites"]
        ],
    )


def _results(run: Run) -> Section:
    record = run.record
    columns = [name for name in COLUMNS if name != "method" or record.baselines]
    blocks: list[Block] = [
        Table(
            "Results on test images",
            columns,
            [[row[name] for name in columns] for row in _result_rows(record)],
            plain(" ".join([tables.selection(record), tables.NOTE, *tables.notes(record)])),
        )
    ]
    if record.population["external"]:
        blocks.append(_external(record))
    blocks += views(
        "Metrics over the run",
        run.shown(
            {
                "learning_curves": "By round",
                "learning_curves_virtual_time": "By virtual time",
            }
        ),
    )
    blocks += run.shown(
        {"calibration": "Calibration", "predicted_against_true": "Predicted and true"}
    ).values()
    return Section("results", "Results", blocks)


def _result_rows(record: RunRecord) -> Iterator[dict[str, Cell]]:
    """Yield rows of the results table by heading; best models only where they are not final."""
    chosen = record.selection
    for row, cells in zip(rows.results(record), tables.result_cells(record), strict=True):
        if row.model == "best" and row.round == chosen.final_round:
            continue
        keys = (
            cells[0],
            cells[1],
            cells[2],
            row.pooled,
            row.num_valid,
            row.site_mean,
            row.worst,
            row.gap,
            row.num_sites_defined,
        )
        named = zip(tables.HEADINGS, cells, keys, strict=True)
        yield {heading: Cell(text, key) for heading, text, key in named}


def _external(record: RunRecord) -> Table:
    found = zip(rows.external(record), tables.external_cells(record), strict=True)
    return Table(
        "Results on images on which no site trained",
        ("metric", "method", "model", "set", "value", "n"),
        [
            [*map(word, cells[:4]), Cell(cells[4], row["value"]), num(row["num_valid"])]
            for row, cells in found
        ],
    )


def _sites(run: Run) -> Section:
    record = run.record
    if not tested_sites(record):
        return Section("sites", "Site by site", [])
    pictures = run.shown(
        {"site_bars": "The federated model at each site", "local_models": "Models of single sites"}
    )
    return Section(
        "sites", "Site by site", [*views("Sites in pictures", pictures), _site_table(record)]
    )


def _site_table(record: RunRecord) -> Table:
    metrics, count = Scores.of(record).metrics, eligible(record)
    found = [
        [
            word(row["site"]),
            *(num(row[f"num_{split}"]) for split in SPLITS),
            *(
                Cell(
                    tables.bracketed(
                        row[f"{metric}_final"],
                        row.get(f"{metric}_final_low"),
                        row.get(f"{metric}_final_high"),
                    ),
                    row[f"{metric}_final"],
                    "" if row["site"] in count else "quiet",
                )
                for metric in metrics
            ),
        ]
        for row in rows.sites(record)
    ]
    few = len(count) < len(found)
    return Table(
        f"Sites after the final round ({record.selection.final_round})",
        ("site", *SPLITS, *map(arrowed, metrics)),
        found,
        "Numbers of images, then values on the site's test images."
        + f" Pale: too few test images{of_class(record, 'some')} to be compared." * few,
    )


def _fleet(run: Run) -> Section:
    record = run.record
    if not clock(record):
        return Section("fleet", "Fleet", [])
    busy = computing_share(record)
    worked = [task for row in record.rounds if row["virtual"] for task in row["virtual"]["tasks"]]
    lines = []
    for name, device in record.population["devices"].items():
        mine = [task for task in worked if task["site"] == name]
        share = busy.get(name, 0.0)
        lines.append(
            [
                word(name),
                word(device),
                num(len(mine)),
                num(sum(not task["counted"] for task in mine)),
                Cell(f"{100 * share:.0f} %", share),
            ]
        )
    table = Table(
        "The sites' devices and their work",
        ("site", "device", "times at work", "of these too late", "computing"),
        lines,
        "Computing: share of the whole virtual time. Virtual time is simulated from operations, "
        "bytes and device profiles, not measured.",
    )
    return Section("fleet", "Fleet", [*run.shown({"timeline": "Timeline"}).values(), table])


def _loss(run: Run) -> Section:
    pictures = run.shown({"loss_decomposition": "Loss"})
    return Section("loss", "Loss decomposition", list(pictures.values()))


def _privacy(run: Run) -> Section:
    found = privacy.balance_of(run.record)
    if found is None:
        return Section("privacy", "Privacy", [])
    headings, lines = privacy.table(found)
    numbers = [account.epsilon for account in found.accounts]
    table = Table(
        "What was released, and what it costs",
        headings,
        [
            [*map(word, line[:-1]), Cell(line[-1], number)]
            for line, number in zip(lines, numbers, strict=True)
        ],
    )
    return Section("privacy", "Privacy", [table, Sentences(list(privacy.said(run.record, found)))])


def _audit(run: Run) -> Section:
    return Section("audit", "Audit", list(audit.blocks(run.record)))


def _environment(run: Run) -> Section:
    return provenance.environment([run.record])


def _citations(run: Run) -> Section:
    return provenance.references([run.record])


def _repeat(run: Run) -> Section:
    folder, device = run.record.folder.name, run.record.environment.get("device_type")
    command = f"fedsim run {folder}/scenario.yaml" + f" --device {device}" * bool(device)
    return Section(
        "repeat",
        "Run it again",
        [
            Code("The same scenario from the run folder, at any number of workers:", command),
            Text(
                "On the same hardware and versions it gives the same bits; "
                f"the digest of the scenario is {run.record.run['digest']}.",
                "note",
            ),
        ],
    )


def plain(text: str) -> str:
    """Return text that was written for Markdown without its emphasis."""
    return text.replace("*", "")


SECTIONS: tuple[Callable[[Run], Section], ...] = (
    _setup,
    _population,
    _results,
    _sites,
    _fleet,
    _loss,
    _privacy,
    _audit,
    _environment,
    _citations,
    _repeat,
)
"""The sections of the page in order; one that has nothing to show is left out."""
