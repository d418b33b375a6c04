"""An audit from its options to `audit.json`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fedsim.audit import inversion, mechanism, membership, one_run
from fedsim.audit.finding import CONFIDENCE, FAMILYWISE_ERROR, TESTS, Outcome, Test
from fedsim.audit.subject import Options, Subject
from fedsim.engines.inline import repeatable
from fedsim.errors import InputError
from fedsim.privacy.balance import balance
from fedsim.records import read
from fedsim.records.audit import read_audit, write_audit
from fedsim.scenario.promises import delta_of
from fedsim.seeds import Streams

Tell = Callable[[str, int, int], None]
"""Told which test goes on, how much of it is done, and of how much."""
NUM_OTHER_TESTS = 2
"""Tests beside those of the ledger's claims which may raise an alarm."""
RUN: Mapping[Test, Callable[[Subject, Callable[[int, int], None]], Outcome]] = {
    "mechanism": mechanism.run,
    "one-run": one_run.run,
    "membership": membership.run,
    "inversion": inversion.run,
}
COSTS: Mapping[Test, Callable[[Subject], float]] = {
    "mechanism": mechanism.seconds,
    "one-run": one_run.seconds,
    "membership": membership.seconds,
    "inversion": inversion.seconds,
}


def subject(folder: Path, options: Options, device: torch.device) -> Subject:
    """Return the run to audit.

    Raises:
        InputError: if the folder holds no finished run.
    """
    record = read(folder)
    if not record.finished:
        raise InputError(f"{folder}: is not finished; go on with: fedsim resume {folder}")
    read_audit(folder)
    found = Subject(record, device, options, Streams(Streams(options.seed).key("audit")), 1.0)
    return replace(found, error=FAMILYWISE_ERROR / (len(found.claims) + NUM_OTHER_TESTS))


def costs(found: Subject) -> dict[Test, float]:
    """Return about how many seconds each test takes, judged by the run's own."""
    return {name: COSTS[name](found) for name in TESTS if name in found.options.tests}


def audit(found: Subject, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Do the tests that the options name, write `audit.json` and return its content.

    What an earlier audit found with tests that are not repeated now is kept.
    """
    outcomes: dict[Test, Outcome] = {}
    with repeatable():
        for name in TESTS:
            if name in found.options.tests:
                outcomes[name] = RUN[name](found, partial(tell, name))
    folder = found.record.folder
    earlier = (read_audit(folder) or {"tests": {}})["tests"]
    done = {name: outcome.as_data() for name, outcome in outcomes.items()}
    content = {
        "digest": found.record.run["digest"],
        "confidence": CONFIDENCE,
        "familywise_error": FAMILYWISE_ERROR,
        "accounted": _accounted(found),
        "tests": {name: (earlier | done)[name] for name in TESTS if name in earlier | done},
    }
    pictures = {
        one.picture: one.png for one in outcomes.values() if one.picture and one.png is not None
    }
    return write_audit(folder, content, pictures)


def _accounted(found: Subject) -> list[dict[str, Any]]:
    """Return what the ledger comes to, by kind of unit."""
    if not found.ledger:
        return []
    verdicts = balance(found.ledger, delta_of(found.record.scenario)).federation
    return [
        {
            "unit": verdict.account.unit,
            "site": verdict.account.site,
            "delta": verdict.account.delta,
            "epsilon": verdict.bounds.high if math.isfinite(verdict.bounds.high) else None,
            "advantage": verdict.attack.advantage,
            "true_positive_rate": verdict.attack.true_positive_rate,
        }
        for verdict in verdicts
    ]
