"""The page of a study: the question, what was found, and all that the answer rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clients.metrics import METRICS
from fedsim.records.study import StudyRecord
from fedsim.report.document import provenance
from fedsim.report.document.parts import Block, Document, Facts, Section, Text
from fedsim.report.study import answers, grounds
from fedsim.report.study.privacy import alarmed, privacy
from fedsim.report.study.subject import Study


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
    yield from alarmed(study)


BEFORE: tuple[Callable[[Study], Section], ...] = (
    grounds.setup,
    grounds.population,
    grounds.failures,
    grounds.environment,
    grounds.citations,
    grounds.repeat,
)
"""The sections of a study that is not compared yet."""
SECTIONS: tuple[Callable[[Study], Section], ...] = (
    answers.answer,
    answers.differences,
    answers.against_numbers,
    privacy,
    answers.learning_curves,
    answers.mean_ranks,
    answers.costs,
    answers.fairness,
    answers.join,
    answers.clinical_use,
    grounds.setup,
    grounds.population,
    grounds.tuning,
    grounds.power,
    grounds.failures,
    grounds.environment,
    grounds.citations,
    grounds.repeat,
)
"""The sections of the page in order; one that has nothing to show is left out."""
