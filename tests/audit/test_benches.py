"""Mechanisms that sites or rounds share the noise of: the right one passes, planted faults fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from clients.dpsgd import DpSgd, train_private
from clients.training import Plan
from fedsim.audit import mechanism
from fedsim.audit.bench import Bench
from fedsim.audit.benches import bench_of
from fedsim.audit.claims import Claim
from fedsim.audit.finding import Finding
from fedsim.audit.sequence_bench import SequenceBench
from fedsim.audit.site_bench import SiteBench
from fedsim.audit.subject import Subject
from fedsim.audit.training_bench import TrainingBench
from fedsim.privacy import Distributed, Local
from fedsim.privacy.correlated_mean import CorrelatedMean
from fedsim.privacy.local import LocalUpdate
from fedsim.privacy.matrix_factorisation import Banded, Factorisation, Tree
from fedsim.privacy.mechanism import Setting
from fedsim.privacy.private_mean import SecureSum
from fedsim.privacy.site_noise import SiteNoise
from fedsim.scenario import Scenario
from fedsim.seeds import Streams
from fedsim.simulate import run

CLIP, NOISE, ERROR, LEAST, CYCLE = 0.7, 1.3, 0.01, 5, 6
CLAIM = Claim("site", ("a", "b"), NOISE, 1.0, 20)
SETTING = Setting(10, Plan(batch_size=8, epochs=1))
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4)))
ONE, WHOLE, ANEW = "noise, one release", "noise, whole training", "noise, drawn anew"


def findings(bench: Bench, claim: Claim = CLAIM) -> dict[str, Finding]:
    return {one.figure: one for one in mechanism.test(bench, claim, 0, 1e-3, ERROR)}


def alarmed(bench: Bench, claim: Claim = CLAIM) -> set[str]:
    return {name for name, one in findings(bench, claim).items() if one.alarm}


# Noise that sites add


@dataclass(frozen=True)
class Faulty(SiteNoise):
    """What a site does to its update, or with a mistake in it."""

    bug: str = ""

    def event(self) -> Any:
        raise NotImplementedError

    @property
    def std(self) -> float:
        scale = {
            "a tenth less": 0.9,
            "over the number of shares": 1 / math.sqrt(self.num_shares),
            "over sites that may be away": math.sqrt(LEAST / 8),
        }
        return super().std * scale.get(self.bug, 1.0)

    def sent(self, start: Any, local: Any, streams: Any, round: int, site: int, num: int) -> Any:
        if self.bug == "same every round":
            round = 1
        if self.bug == "a long one has no noise" and float(local["weight"].norm()) > self.clip_norm:
            whole = super().sent(start, local, streams, round, site, num)
            blank = super().sent(start, start, streams, round, site, num)
            return {name: value - blank[name] for name, value in whole.items()}
        if self.bug == "no clip":
            blank = super().sent(start, start, streams, round, site, num)
            return {name: value + local[name] for name, value in blank.items()}
        return super().sent(start, local, streams, round, site, num)


def local(seed: int = 0, bug: str | None = None) -> SiteBench:
    made = Local(clip_norm=CLIP, noise_multiplier=1.0)

    def release(noise: float) -> SiteNoise:
        if bug == "not doubled":
            return LocalUpdate(noise / 2, CLIP)
        return made.release(noise, SETTING) if bug is None else Faulty(noise, CLIP, bug=bug)

    return SiteBench(Streams(seed), release, made.relation)


def distributed(seed: int = 0, bug: str | None = None, suffice: int = LEAST) -> SiteBench:
    made = Distributed(clip_norm=CLIP, noise_multiplier=1.0, min_survivors=LEAST)

    def release(noise: float) -> SiteNoise:
        if bug is None:
            return made.release(noise, SETTING)
        return Faulty(noise, CLIP, LEAST, bug=bug)

    return SiteBench(
        Streams(seed), release, made.relation, lambda: SecureSum(LEAST, suffice), LEAST
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("made", [local, distributed])
def test_noise_at_sites_passes(made: Callable[..., SiteBench], seed: int) -> None:
    found = findings(made(seed))
    assert not any(one.alarm or one.note for one in found.values())
    for name in (ONE, ANEW):
        assert found[name].value == pytest.approx(NOISE, rel=0.1)
    assert found["reach of an update"].value == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("bug", "caught"),
    [
        ("a tenth less", {ONE, ANEW}),
        ("no clip", {ONE, WHOLE, "reach of an update"}),
        ("same every round", {ANEW}),
        ("a long one has no noise", {"reach of an update"}),
    ],
)
@pytest.mark.parametrize("made", [local, distributed])
def test_a_mistake_at_sites_is_found(
    made: Callable[..., SiteBench], bug: str, caught: set[str]
) -> None:
    assert caught <= alarmed(made(bug=bug))


def test_an_update_of_which_the_opposite_is_twice_as_far_is_found() -> None:
    assert {ONE, ANEW} <= alarmed(local(bug="not doubled"))


@pytest.mark.parametrize("bug", ["over the number of shares", "over sites that may be away"])
def test_shares_that_do_not_make_up_the_noise_are_found(bug: str) -> None:
    assert {ONE, WHOLE, ANEW} <= alarmed(distributed(bug=bug))


def test_a_sum_of_too_few_sites_is_found() -> None:
    assert alarmed(distributed(suffice=LEAST - 1)) == {"sites in a sum"}


# Noise that rounds share


class Overlapping(Banded):
    """Bands that go on when a site takes part again."""

    kind: Any = "overlapping"

    def correlated(self, independent: Iterable[Tensor], separation: int) -> Iterator[Tensor]:
        return super().correlated(independent, 2 * separation)


class Unscaled(Tree):
    """The noise of a node counted as that of a site."""

    kind: Any = "unscaled"

    def correlated(self, independent: Iterable[Tensor], separation: int) -> Iterator[Tensor]:
        scale = math.sqrt(separation.bit_length())
        return (w / scale for w in super().correlated(independent, separation))


def ftrl(
    factorisation: Factorisation,
    seed: int = 0,
    of_noise: float = 1.0,
    of_clip: float = 1.0,
    done: Factorisation | None = None,
) -> SequenceBench:
    """Return the bench of a mechanism, of which something else than said may be done."""

    def mean(noise: float, expected: float, streams: Streams, separation: int) -> CorrelatedMean:
        noise, clip = noise * of_noise / of_clip, CLIP * of_clip
        return CorrelatedMean(clip, noise, expected, streams, done or factorisation, separation)

    return SequenceBench(Streams(seed), mean, factorisation, CYCLE, CLIP)


SHARED = [Banded(), Tree()]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("part", SHARED, ids=repr)
def test_noise_that_rounds_share_passes(part: Factorisation, seed: int) -> None:
    found = findings(ftrl(part, seed))
    assert not any(one.alarm or one.note for one in found.values())
    for name in (ONE, ANEW):
        assert found[name].value == pytest.approx(NOISE, rel=0.1)
    assert found["noise, sum of rounds"].value == pytest.approx(1.0, rel=0.06)
    assert found["reach of a site over rounds"].value <= 1 + 1e-9


@pytest.mark.parametrize("part", SHARED, ids=repr)
def test_a_tenth_less_of_shared_noise_is_found(part: Factorisation) -> None:
    caught = alarmed(ftrl(part, of_noise=0.9))
    assert {ONE, ANEW, "noise, sum of rounds"} <= caught


@pytest.mark.parametrize("part", SHARED, ids=repr)
def test_a_missing_clip_under_shared_noise_is_found(part: Factorisation) -> None:
    assert {ONE, WHOLE} <= alarmed(ftrl(part, of_clip=1e6))


@pytest.mark.parametrize("part", [Overlapping(), Unscaled()], ids=repr)
def test_a_factorisation_that_promises_too_much_is_found(part: Factorisation) -> None:
    assert "reach of a site over rounds" in alarmed(ftrl(part))


def test_noise_that_is_shared_otherwise_than_said_is_found() -> None:
    assert "noise, sum of rounds" in alarmed(ftrl(Banded(bands=2), done=Banded()))
    found = findings(ftrl(Banded(), done=Banded(bands=1)))
    assert not any(one.alarm for one in found.values())
    assert found["noise, sum of rounds"].note.startswith("more noise")


# Patients


def patients(train: Callable[..., Any] = train_private, seed: int = 0) -> TrainingBench:
    def made(noise: float, rate: float, num_steps: int) -> DpSgd:
        return DpSgd(CLIP, noise, rate, num_steps, max_physical_batch=256)

    return TrainingBench(Streams(seed), made, train, num_images=2)


OF_PATIENTS = Claim("patient", ("a",), NOISE, 0.2, 20)


@pytest.mark.slow
def test_whole_patients_pass() -> None:
    assert not alarmed(patients(), OF_PATIENTS)


@pytest.mark.slow
def test_images_that_are_clipped_in_place_of_patients_are_found() -> None:
    def by_image(*rest: Any, unit_of_example: Tensor, **more: Any) -> Any:
        model, examples, said, *others = rest
        scaled = DpSgd(
            said.clip_norm, said.noise_multiplier, said.sampling_rate, said.num_steps
        )  # C for each image; the denominator counts images, so twice as many
        optimizer = others[1]
        before = optimizer.step

        def step(closure: Any = None) -> None:
            for half in model.parameters():
                half.grad *= 2
            before()

        optimizer.step = step
        return train_private(model, examples, scaled, *others, **more)

    assert {ONE, WHOLE} <= alarmed(patients(by_image), OF_PATIENTS)


# Whole runs

RUNS: dict[str, dict[str, Any]] = {
    "local": {"mechanism": {"kind": "local"}},
    "distributed": {"mechanism": {"kind": "distributed", "min_survivors": 2}},
    "dp_ftrl": {
        "mechanism": {"kind": "dp_ftrl"},
        "cohort": {"kind": "cyclic", "num_sites": 1},
    },
    "bag_level": {
        "mechanism": {"kind": "bag_level"},
        "population": {"num_sites": 3, "supervision": [{"kind": "bags", "bag_size": 4}]},
        "client": {"epochs": 1, "batch_size": 16, "objective": {"kind": "bag"}},
        "evaluation": {
            "metrics": ["loss", "bag_loss"],
            "select_by": "bag_loss",
            "loss_decomposition": False,
        },
    },
    "patient_level": {
        "mechanism": {"kind": "patient_level"},
        "data": {
            "source": {
                "kind": "synthetic",
                "anatomy": "chest",
                "image_size": 16,
                "num_examples": 120,
                "images_per_patient": 2,
            },
            "task": "binary",
        },
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_of_every_mechanism_passes(
    tiny: Callable[..., Scenario], subject: Callable[..., Subject], tmp_path: Any, kind: str
) -> None:
    changes = dict(RUNS[kind])
    part = changes.pop("mechanism") | {"noise_multiplier": 3.0}
    scenario = tiny(
        privacy={"mechanism": part, "delta": 1e-3},
        strategy={"kind": "weighted_mean", "weights": "uniform"},
        **changes,
    )
    record = run(scenario, out=tmp_path, device="cpu")
    outcome = mechanism.run(subject(record.folder), lambda *_: None)
    assert {ONE, WHOLE} <= {one.figure for one in outcome.findings}
    assert not any(one.alarm for one in outcome.findings)


def test_an_unknown_mechanism_has_no_bench(subject: Callable[..., Subject], private: Any) -> None:
    class Other(Local):
        """Of a plug-in."""

    made: Any = Other(noise_multiplier=1.0)
    assert isinstance(bench_of(subject(private.folder), made), SiteBench)
    assert bench_of(subject(private.folder), object()) is None  # type: ignore[arg-type]
