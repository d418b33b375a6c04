"""What a run reached, for people: three decimals, and the word "undefined" where there is no value.

The numbers are those of `fedsim.report.rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.metrics import METRICS
from fedsim import adversaries, markdown, rho
from fedsim.data import aggregates, drawn_sites
from fedsim.report import privacy
from fedsim.report.rows import external, results, sites
from fedsim.report.scores import (
    METHODS,
    Scores,
    arrowed,
    describe,
    eligible,
    of_class,
    resampled,
    tested_sites,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedsim.records import RunRecord

UNDEFINED, NO_ROUND = "undefined", "\N{EN DASH}"
HEADINGS = (
    "metric",
    "method",
    "model",
    "pooled",
    "n",
    "site mean ± sd",
    "worst site",
    "gap",
    "sites",
)
NOTE = (
    "↑ higher, ↓ lower is better. Pooled: over all test images together; n: how many of them it "
    "counts."
)
YARDSTICKS = (
    "Yardsticks: *pooled training* is one training on the images of all sites together, *each site "
    "alone* the models that the sites train without the others, each judged on its own site's "
    "images."
)
NAMED = 6
"""Sites that a sentence names."""
EXAMPLES = 3
"""Groups of equal images, and images of a group, that the page shows."""


def to_markdown(record: RunRecord) -> str:
    """Return the report's page: which run, its results, its sites."""
    lines = [
        f"# {record.scenario['name']}",
        f"{describe(record)}.",
        *warnings(record),
        *_equal_images(record),
        "## Test results",
        markdown.table(HEADINGS, result_cells(record)),
        " ".join([selection(record), NOTE, *notes(record)]),
    ]
    if record.population["external"]:
        lines += [
            "## External test images (no site trained on these)",
            markdown.table(
                ("metric", "method", "model", "set", "value", "n"), external_cells(record)
            ),
        ]
    lines += [
        f"## {'Sites' if tested_sites(record) else 'Server'} after round "
        f"{record.selection.final_round}",
        markdown.table(*_site_cells(record)),
        "n: how many of the test images in this row the value counts.",
    ]
    if (found := privacy.balance_of(record)) is not None:
        lines += [
            "## Privacy",
            markdown.table(*privacy.table(found)),
            *privacy.said(record, found),
        ]
    return markdown.harmless("\n\n".join(lines)) + "\n"


def number(value: float | None) -> str:
    """Return a value for people.

    >>> number(0.0), number(None)
    ('0.000', 'undefined')
    """
    return UNDEFINED if value is None else f"{value:.3f}"


def warnings(record: RunRecord) -> Iterable[str]:
    """Yield what a reader must know of the data."""
    found = record.population["duplicates"]
    across = found["across_sites"]
    if found["num_groups"]:
        yield (
            f"**{found['num_groups']} images are in the data more than once, pixel for pixel: "
            f"{found['across_splits']} of them in several splits, "
            + f"{across} at several sites, " * (across is not None)
            + f"{found['across_labels']} with different labels.**"
        )
    if across is None:
        yield "Whether two sites have the same image is not known: none shows its own."
    if wrong := {n: c for n, c in record.population["num_mislabelled"].items() if c}:
        listed = ", ".join(f"{name} {num}" for name, num in wrong.items())
        yield f"Training labels were made wrong on purpose (label noise): {listed}."
    if said := aggregates.text(record.population["knowledge"], len(record.population["sites"])):
        yield f"What sites know of their labels: {said}."
    if said := aggregates.truncation(record.population["knowledge"]):
        yield f"{said}."
    if chosen := record.run["chosen"]:
        yield f"{rho.text(chosen)}."
    if said := attack(record):
        yield f"{said}."
    if drawn := record.population["drawn"]:
        yield f"{drawn_sites.text(drawn)}."


def attack(record: RunRecord) -> str:
    """Return which sites attack and how, in a sentence; nothing without adversaries."""
    population = record.population
    num = population["drawn"]["num_sites"] if population["drawn"] else len(population["sites"])
    return adversaries.text(population["adversaries"], num)


def notes(record: RunRecord) -> Iterable[str]:
    """Yield what a reader must know of the numbers."""
    if personalisation := record.scenario["client"].get("personalisation"):
        yield (
            "**Validation and test images of a site are judged by the site's own model "
            f"(`{personalisation['kind']}`), not by the global one**; external images by "
            "the global one."
        )
    yield _over_sites(record)
    if record.intervals:
        confidence = record.intervals[0]["confidence"]
        num = record.scenario["evaluation"]["num_resamples"]
        yield (
            f"In brackets: {100 * confidence:.0f} % bootstrap intervals from {num} resamples of "
            f"the test {resampled(record)}; they cover the choice of test images only, not another "
            "seed or another training."
        )
    if record.baselines:
        yield YARDSTICKS


def _over_sites(record: RunRecord) -> str:
    """Return what mean, spread, gap and worst site are over, in a sentence."""
    sites, count = tested_sites(record), eligible(record)
    if not sites:
        return "No site has test images, so nothing is said of single sites or their spread."
    least = record.scenario["evaluation"]["min_per_class"]
    left_out = [site for site in sites if site not in count]
    return (
        f"Site mean, sample standard deviation, worst site and gap (from worst to best) are over "
        f"the {len(count)} of {len(sites)} sites with at least {least} test images"
        + of_class(record, "every")
        + (f", so without {_listed(left_out)}." if left_out else ".")
    )


def _equal_images(record: RunRecord) -> Iterable[str]:
    """Yield examples of images that are there more than once."""
    found = record.population["duplicates"]
    if found["num_groups"]:
        groups = found["examples"]
        yield "Of the images that are there more than once, for example:"
        yield "\n".join(f"- {_listed(group, EXAMPLES, '; ')}" for group in groups[:EXAMPLES])


def _listed(names: Sequence[str], most: int = NAMED, join: str = ", ") -> str:
    more = len(names) - most
    return join.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def selection(record: RunRecord) -> str:
    """Return what chooses the best round, in a sentence."""
    metric = METRICS[record.selection.metric].title
    return f"On test images; the best round is chosen by pooled validation {metric}."


def result_cells(record: RunRecord) -> list[tuple[str, ...]]:
    """Return the results for people: a cell for each of `HEADINGS`."""
    return [
        (
            arrowed(row.metric),
            METHODS[row.method],
            _model(row.model, row.round),
            bracketed(row.pooled, row.low, row.high),
            str(row.num_valid),
            spread(row.site_mean, row.site_sd),
            UNDEFINED if row.worst_site is None else f"{number(row.worst)} {row.worst_site}",
            number(row.gap),
            f"{row.num_sites_defined}/{row.num_sites}",
        )
        for row in results(record)
    ]


def external_cells(record: RunRecord) -> list[tuple[str, ...]]:
    """Return the results on external sets for people."""
    return [
        (
            arrowed(row["metric"]),
            METHODS[row["method"]],
            _model(row["model"], row["round"]),
            row["site"],
            bracketed(row["value"], row["low"], row["high"]),
            str(row["num_valid"]),
        )
        for row in external(record)
    ]


def _model(model: str, round: int | None) -> str:
    return f"{model} ({NO_ROUND if round is None else round})"


def bracketed(value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, if it has one.

    >>> bracketed(0.9, 0.85, 0.94), bracketed(0.9, None, None)
    ('0.900 [0.850, 0.940]', '0.900')
    """
    if low is None:
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def spread(mean: float | None, sd: float | None) -> str:
    """Return a mean with its standard deviation, if it has one.

    >>> spread(0.9, 0.01), spread(None, None)
    ('0.900 ± 0.010', 'undefined')
    """
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def _site_cells(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    scores = Scores.of(record)
    headings = [
        "site",
        "train",
        "validation",
        "test",
        *(f"{arrowed(metric)} (n)" for metric in scores.metrics),
    ]
    counts = ("num_train", "num_validation", "num_test")
    return headings, [
        [row["site"], *(str(row[key]) for key in counts)]
        + [
            f"{number(row[f'{metric}_final'])} ({row[f'{metric}_final_num_valid']})"
            for metric in scores.metrics
        ]
        for row in sites(record)
    ]
