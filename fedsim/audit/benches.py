"""Which bench a run's mechanism is put to the test on."""

from __future__ import annotations

from functools import partial

from fedsim.audit.bench import Bench
from fedsim.audit.sequence_bench import SequenceBench
from fedsim.audit.server_bench import ServerBench
from fedsim.audit.site_bench import SiteBench
from fedsim.audit.subject import Subject
from fedsim.audit.training_bench import TrainingBench
from fedsim.flower.private_training import dp_sgd
from fedsim.privacy import ClientLevel, Distributed, DpFtrl, Local, Mechanism
from fedsim.privacy.dp_sgd import DpSgdMechanism, Steps
from fedsim.privacy.mechanism import Setting

IMAGES_OF_A_PATIENT = 2
LONGEST_CYCLE = 50
"""Rounds; a longer one is put to the test as such, unless more rounds share noise."""


def bench_of(subject: Subject, mechanism: Mechanism) -> Bench | None:
    """Return where a mechanism is put to the test, None for one that is not known here."""
    streams = subject.streams
    match mechanism:
        case DpSgdMechanism():
            mode = subject.workplace.gradient_mode
            num_images = IMAGES_OF_A_PATIENT if mechanism.unit == "patient" else 1
            return TrainingBench(
                streams,
                lambda *numbers: dp_sgd(mechanism, Steps(*numbers), mode),
                num_images=num_images,
            )
        case ClientLevel():
            expected = subject.scenario.cohort.num_expected(len(subject.population))
            return ServerBench(streams, mechanism.mean, mechanism.clip_norm, expected)
        case DpFtrl(factorisation=factorisation):
            cycle = subject.scenario.cohort.separation(len(subject.population))
            lengths = range(min(cycle, LONGEST_CYCLE), cycle + 1)
            separation = next(filter(factorisation.suits, lengths))
            return SequenceBench(
                streams, mechanism.mean, factorisation, separation, mechanism.clip_norm
            )
        case Local() | Distributed():
            return _site_bench(subject, mechanism)
    return None


def _site_bench(subject: Subject, mechanism: Local | Distributed) -> SiteBench:
    setting = Setting(len(subject.population), subject.scenario.client.plan)
    release = partial(mechanism.release, setting=setting)
    if isinstance(mechanism, Local):
        return SiteBench(subject.streams, release, mechanism.relation)
    least = mechanism.min_survivors
    mean = partial(mechanism.mean, 0.0, float(least), subject.streams)
    return SiteBench(subject.streams, release, mechanism.relation, mean, least)
