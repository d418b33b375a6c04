"""Mistakes of published code, each planted in a copy: our checks must catch it, and pass the truth.

The copies are written differently from the product. A check takes an implementation, so that what
catches a mistake is what the product passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from dp_accounting import dp_event
from scipy.optimize import brentq
from scipy.stats import kstest, norm
from torch import Tensor, nn

from clients.batch import Batch
from clients.dpsgd import DpSgd, train_private
from clients.objectives import CrossEntropy
from clients.objectives.base import Context
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.adaptive_clip import AdaptiveClip
from fedsim.privacy.events import history
from fedsim.privacy.private_mean import NoisyMean, PrivateMean
from fedsim.scenario import Scenario
from fedsim.seeds import Streams

CLIP, NOISE, NUM_SITES = 0.5, 2.0, 8
NOT_FINITE = (float("nan"), float("inf"))
Check = Callable[..., None]


# Noise at the server


class Copy(PrivateMean):
    """The mean of clipped updates as one would write it, or with a mistake in it.

    Args:
        bug: which one.
        sizes: examples of the sites, in the order in which they are taken.
    """

    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float,
        num_expected: float,
        streams: Streams,
        adaptive_clip: AdaptiveClip | None = None,
        *,
        bug: str | None = None,
        sizes: Sequence[int] = (400, 20, 20, 20, 20, 20, 20, 20),
    ) -> None:
        super().__init__(num_expected)
        self.clip_norm, self.z, self.streams = clip_norm, noise_multiplier, streams
        self.adaptive, self.bug, self.sizes = adaptive_clip, bug, sizes
        self.taken: list[Tensor] = []

    def begin(self, zero: Any) -> None:
        (self.zero,) = zero.values()
        self.taken = []

    def take(self, update: Any) -> bool:
        (value,) = update.values()
        self.taken.append(value)
        return bool(value.isfinite().all())

    def release(self, round: int) -> dict[str, Tensor]:
        bug, clip = self.bug, self.clip_norm
        known = [u for u in self.taken if bug == "not_finite_spreads" or u.isfinite().all()]
        bounded = [
            u if bug == "no_clip" else u * min(1.0, clip / max(float(u.norm()), 1e-30))
            for u in known
        ]
        if bug == "weights_by_examples":
            share = [len(known) * n / sum(self.sizes) for n in self.sizes]
            bounded = [u * w for u, w in zip(bounded, share, strict=False)]
        std, after = self.z, clip
        if self.adaptive is not None:
            std = (self.z**-2 - (2 * self.adaptive.sigma_b(self.num_expected)) ** -2) ** -0.5
            after = self.adapted(known, round)
        noise = std * {"next_bound": after, "fixed_sensitivity": 1e-4}.get(bug or "", clip)
        if bug == "cohort_maximum":
            most = max(self.sizes[: len(known)], default=1)
            bounded = [u * n / most for u, n in zip(bounded, self.sizes, strict=False)]
        stream = self.streams.numpy("a copy", round=1 if bug == "same_every_round" else round)
        total = torch.stack([torch.zeros_like(self.zero), *bounded]).sum(0)
        drawn = torch.from_numpy(stream.normal(size=total.shape)) * noise
        total = total + (drawn.trunc() if bug == "noise_of_integers" else drawn)
        self.clip_norm = after
        if bug == "realised_cohort":
            return {"w": total / max(1, len(self.taken))}
        if bug == "survivors_rescaled":
            total = total * self.num_expected / max(1, len(self.taken))
        return {"w": total / self.num_expected}

    def adapted(self, updates: Sequence[Tensor], round: int) -> float:
        """Return C_{t+1}."""
        assert self.adaptive is not None
        stream = self.streams.numpy("a copy's count", round=round)
        error = stream.normal() * self.adaptive.sigma_b(self.num_expected)
        centre = 0.0 if self.bug == "count_not_centred" else 0.5
        short = sum(float(u.norm() <= self.clip_norm) - centre for u in updates)
        excess = centre + (short + error) / self.num_expected - self.adaptive.quantile
        sign = -1 if self.bug == "sign_inverted" else 1
        return self.clip_norm * math.exp(-sign * self.adaptive.learning_rate * excess)


Server = Callable[..., PrivateMean]


def served(mean: PrivateMean, updates: Sequence[Tensor], round: int = 1) -> Tensor:
    """Return what the server makes of the updates of a round."""
    mean.begin({"w": torch.zeros(len(updates[0]), dtype=torch.float64)})
    for update in updates:
        mean.take({"w": update})
    return mean.release(round)["w"]


def plain(make: Server, noise: float = 0.0, seed: int = 0, num: float = NUM_SITES) -> PrivateMean:
    return make(CLIP, noise, num, Streams(seed))


def drawn(num: int, size: int, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(scale * torch.randn(num, size, dtype=torch.float64, generator=generator))


def check_sensitivity(make: Server) -> None:
    """Nobody's update moves the mean by more than C / D, and a long one moves it by that."""
    for scale in (1e-3, 0.1, 1.0, 1e3):
        updates = drawn(NUM_SITES, 6, scale=scale)
        whole = served(plain(make), updates)
        for site, update in enumerate(updates):
            blank = [*updates[:site], torch.zeros(6, dtype=torch.float64), *updates[site + 1 :]]
            moved = float((whole - served(plain(make), blank)).norm()) * NUM_SITES
            assert moved == pytest.approx(min(CLIP, float(update.norm())), rel=1e-9)


def check_a_site_that_does_not_answer_is_zero(make: Server) -> None:
    """Neither the divisor nor what others add depends on who answers."""
    updates, blank = drawn(NUM_SITES, 6), torch.zeros(6, dtype=torch.float64)
    for noise in (0.0, NOISE):
        without = served(plain(make, noise), updates[:5])
        instead = served(plain(make, noise), [*updates[:5], *[blank] * 3])
        torch.testing.assert_close(without, instead, rtol=1e-12, atol=1e-12)


def check_what_is_not_finite_is_zero(make: Server) -> None:
    updates = drawn(NUM_SITES, 6)
    for value in NOT_FINITE:
        poisoned = updates[3].clone()
        poisoned[2] = value
        found = served(plain(make, NOISE), [*updates[:3], poisoned, *updates[4:]])
        blank = torch.zeros(6, dtype=torch.float64)
        expected = served(plain(make, NOISE), [*updates[:3], blank, *updates[4:]])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def check_noise(make: Server) -> None:
    """Its standard deviation is z C / D, and it is another one in every round."""
    size = 16_000
    silent = [torch.zeros(size, dtype=torch.float64)] * NUM_SITES
    mean, scale = plain(make, NOISE), NOISE * CLIP / NUM_SITES
    first, second = (served(mean, silent, round) for round in (1, 2))
    for found in (first, second):
        assert kstest(found.numpy(), norm(scale=scale).cdf).pvalue > 1e-3
        assert kstest(found.numpy(), norm(scale=1.1 * scale).cdf).pvalue < 1e-6
        assert kstest(found.numpy(), norm(scale=0.9 * scale).cdf).pvalue < 1e-6
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / math.sqrt(size)


def check_mu(make: Server) -> None:
    """Whoever sees one coordinate of many rounds tells a site from a blank by 1 / z at most."""
    num, seen = 1000, []
    for update in (torch.tensor([9.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)):
        mean = plain(make, NOISE, seed=len(seen))
        others = drawn(NUM_SITES - 1, 1)
        seen.append(torch.cat([served(mean, [update, *others], r) for r in range(1, num + 1)]))
    shift = float(seen[0].mean() - seen[1].mean()) / float(
        torch.cat([s - s.mean() for s in seen]).std()
    )
    assert shift < 1 / NOISE + 4 * math.sqrt(2 / num)
    assert shift > 1 / NOISE - 4 * math.sqrt(2 / num)


def check_adaptive_count(make: Server) -> None:
    """A site moves the count by a half, whatever its update: that is what its noise is for."""
    num, eta, moved = 100, ADAPTIVE.learning_rate, []
    for norms in ([1.0] * num, [1.0] * (num - 1), [1.0] * (num - 1) + [9.0]):
        mean: Any = make(2.0, 0.5, num, Streams(0), ADAPTIVE)
        served(mean, [torch.tensor([norm], dtype=torch.float64) for norm in norms])
        moved.append(-math.log(mean.clip_norm / 2.0) / eta * num)
    there, blank, longer = moved
    assert there - blank == pytest.approx(0.5, abs=1e-6)
    assert blank - longer == pytest.approx(0.5, abs=1e-6)


ADAPTIVE = AdaptiveClip(quantile=0.5, learning_rate=0.2, count_noise=5.0)


def check_adaptive_direction(make: Server) -> None:
    """Of norms around 1 the bound finds 1, from below and from above (Andrew et al., figure 2)."""
    for first in (0.1, 10.0):
        mean: Any = make(first, 0.5, 100, Streams(0), ADAPTIVE)
        for round in range(1, 81):
            lengths = torch.exp(0.2 * torch.cat(drawn(100, 1, seed=round)))
            served(mean, list(lengths[:, None]), round)
        assert 0.7 < mean.clip_norm < 1.4


def check_adaptive_noise(make: Server) -> None:
    """Updates are clipped at the bound that the noise is of, also while the bound moves."""
    size, num, noise = 20_000, 100, 2.0
    z_delta = (noise**-2 - (2 * ADAPTIVE.sigma_b(num)) ** -2) ** -0.5
    axis = torch.zeros(size, dtype=torch.float64)
    axis[0] = 1e6
    both = []
    for sign in (1, -1):  # both are too long, so that the bounds move alike
        mean = make(0.1, noise, num, Streams(0), ADAPTIVE)
        for round in (1, 2, 3):
            found = served(mean, [sign * axis] * num, round)
        both.append(found)
    bound = float((both[0] - both[1]).norm()) / 2
    spread = float((both[0] + both[1]).std()) / 2 * num
    assert bound > 0.11
    assert spread / bound == pytest.approx(z_delta, rel=0.03)


FIXED = (
    check_sensitivity,
    check_a_site_that_does_not_answer_is_zero,
    check_what_is_not_finite_is_zero,
    check_noise,
    check_mu,
)
MOVING = (check_adaptive_direction, check_adaptive_count, check_adaptive_noise)
AT_THE_SERVER: tuple[tuple[str, tuple[Check, ...]], ...] = (
    ("no_clip", (check_sensitivity, check_mu)),
    ("weights_by_examples", (check_sensitivity, check_mu)),
    ("fixed_sensitivity", (check_noise, check_mu)),
    ("same_every_round", (check_noise,)),
    ("not_finite_spreads", (check_what_is_not_finite_is_zero,)),
    ("realised_cohort", (check_a_site_that_does_not_answer_is_zero,)),
    ("survivors_rescaled", (check_a_site_that_does_not_answer_is_zero,)),
    ("cohort_maximum", (check_sensitivity,)),
    ("noise_of_integers", (check_noise,)),
    ("count_not_centred", (check_adaptive_count,)),
    ("sign_inverted", (check_adaptive_direction,)),
    ("next_bound", (check_adaptive_noise,)),
)


@pytest.mark.parametrize("make", [NoisyMean, Copy])
@pytest.mark.parametrize("check", FIXED + MOVING)
def test_noise_at_the_server_passes(make: Server, check: Check) -> None:
    check(make)


@pytest.mark.parametrize(
    ("bug", "check"), [(bug, check) for bug, checks in AT_THE_SERVER for check in checks]
)
def test_a_mistake_at_the_server_is_caught(bug: str, check: Check) -> None:
    with pytest.raises(AssertionError):
        check(lambda *args, **more: Copy(*args, **more, bug=bug))


# Noise in the client


Trainer = Callable[..., Any]


def copy_of_training(
    model: nn.Module,
    examples: Batch,
    mechanism: DpSgd,
    objective: Any,
    optimizer: torch.optim.Optimizer,
    *,
    context: Context,
    sampling: torch.Generator,
    noise: torch.Generator,
    bug: str | None = None,
) -> None:
    """Train privately, one example after the other, or with a mistake."""
    parameters = list(model.parameters())
    for _ in range(mechanism.num_steps):
        coins = torch.rand(len(examples), generator=sampling, dtype=torch.float64)
        chosen = torch.nonzero(coins < mechanism.sampling_rate).flatten().tolist()
        if not chosen and bug == "empty_batch_skipped":
            continue
        total = torch.zeros(sum(p.numel() for p in parameters))
        for example in chosen:
            loss = objective.loss(model, examples.select(torch.tensor([example])), context)
            slopes = torch.autograd.grad(loss, parameters)
            row = torch.cat([slope.flatten() for slope in slopes])
            if row.isfinite().all() or bug == "not_finite_spreads":
                total += row * min(1.0, mechanism.clip_norm / max(float(row.norm()), 1e-30))
        total += torch.randn(len(total), generator=noise) * mechanism.noise_scale
        expected = mechanism.sampling_rate * len(examples)
        total /= max(1, len(chosen)) if bug == "realised_batch" else expected
        start = 0
        for parameter in parameters:
            parameter.grad = total[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        optimizer.step()


def moved(trainer: Trainer, examples: Batch, mechanism: DpSgd, seed: int = 0) -> Tensor:
    """Return how far a model of zeros goes with a learning rate of 1, flat."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    trainer(
        model,
        examples,
        mechanism,
        CrossEntropy(),
        torch.optim.SGD(model.parameters(), 1.0),
        context=Context(torch.ones(2)),
        sampling=torch.Generator().manual_seed(seed),
        noise=torch.Generator().manual_seed(seed + 1),
    )
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def images(num: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(num, 1, 8, 8, generator=generator)
    return Batch(pixels, torch.randint(2, (num,), generator=generator))


def check_empty_batch(trainer: Trainer) -> None:
    """A step without any image is a release: the model takes a random walk."""
    mechanism = DpSgd(CLIP, NOISE, 1e-9, num_steps=25)
    found = moved(trainer, images(10), mechanism) * 1e-9 * 10
    assert kstest(found.numpy(), norm(scale=5 * NOISE * CLIP).cdf).pvalue > 1e-3


def check_bad_image(trainer: Trainer) -> None:
    """An image whose gradient is not finite adds nothing to those of others."""
    mechanism, good = DpSgd(CLIP, 0.0, 1.0, num_steps=1), images(6)
    for value in NOT_FINITE:
        poisoned = good.images.clone()
        poisoned[2, 0, 3, 3] = value
        found = moved(trainer, Batch(poisoned, good.labels), mechanism)
        others = moved(trainer, good.select(torch.tensor([0, 1, 3, 4, 5])), mechanism)
        torch.testing.assert_close(found, others * 5 / 6, rtol=1e-4, atol=1e-6)


def check_batch_size(trainer: Trainer) -> None:
    """Alike images of long gradients add C each, over the size that is expected."""
    one, mechanism = images(1), DpSgd(1e-3, 0.0, 0.25, num_steps=1)
    many = Batch(one.images.repeat(40, 1, 1, 1), one.labels.repeat(40))
    found = [float(moved(trainer, many, mechanism, seed).norm()) for seed in range(6)]
    sizes = [
        int(
            (
                torch.rand(40, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
                < 0.25
            ).sum()
        )
        for s in range(6)
    ]
    assert len(set(sizes)) > 2
    assert found == pytest.approx([size * 1e-3 / 10 for size in sizes], rel=1e-3)


IN_THE_CLIENT: tuple[tuple[str, Check], ...] = (
    ("empty_batch_skipped", check_empty_batch),
    ("not_finite_spreads", check_bad_image),
    ("realised_batch", check_batch_size),
)


@pytest.mark.parametrize("trainer", [train_private, copy_of_training])
@pytest.mark.parametrize("check", [check for _, check in IN_THE_CLIENT])
def test_noise_in_the_client_passes(trainer: Trainer, check: Check) -> None:
    check(trainer)


@pytest.mark.parametrize(("bug", "check"), IN_THE_CLIENT)
def test_a_mistake_in_the_client_is_caught(bug: str, check: Check) -> None:
    with pytest.raises(AssertionError):
        check(lambda *args, **more: copy_of_training(*args, **more, bug=bug))


def check_streams(generator: Callable[[int, int], torch.Generator]) -> None:
    """What sites draw in the same and in other rounds has nothing in common."""
    draws = [torch.randn(4000, generator=generator(r, s)) for r in (1, 2) for s in (0, 1, 2)]
    found = torch.corrcoef(torch.stack(draws)) - torch.eye(len(draws))
    assert float(found.abs().max()) < 5 / math.sqrt(4000)


def test_noise_of_two_sites_that_is_the_same_is_caught() -> None:
    streams = Streams(3)
    check_streams(lambda round, site: streams.torch_apart("noise", round * 3 + site))
    with pytest.raises(AssertionError):  # every site seeded alike
        check_streams(lambda round, site: streams.torch_apart("noise", round))
    with pytest.raises(AssertionError):  # every round seeded alike
        check_streams(lambda round, site: torch.Generator().manual_seed(site))


# What is claimed


DELTA = 1e-3


def of_gaussian(mu: float) -> float:
    """Return the epsilon of telling N(0, 1) from N(mu, 1) (Balle and Wang 2018, theorem 8)."""

    def excess(eps: float) -> float:
        a, b = mu / 2, eps / mu
        return float(norm.cdf(a - b) - math.exp(eps) * norm.cdf(-a - b)) - DELTA

    return float(brentq(excess, 0, 200))


def claims_of(scenario: Scenario, num_sites: int) -> tuple[PrivateRounds, int]:
    """Return the private rounds of a scenario, and a site that takes part most often."""
    names = [f"site-{number:03d}" for number in range(num_sites)]
    rounds = PrivateRounds(scenario, names, lambda site: NUM_UNITS)
    return rounds, max(range(num_sites), key=lambda site: len(rounds.rounds_of(site)))


Claim = Callable[[PrivateRounds, int], float]


def ours(rounds: PrivateRounds, site: int) -> float:
    """Return what the ledger comes to for a site."""
    name = rounds.names[site]
    made = ((e.event, 1) for e in rounds.planned() if e.site in (name, None) and e.event)
    return epsilon(history(made), DELTA)


def one_round(rounds: PrivateRounds, site: int) -> float:
    """Return what the last round of a site costs: the others are forgotten, or counted anew."""
    last = rounds.entry(site, rounds.rounds_of(site)[-1])
    return epsilon(history([(last.event or dp_event.NonPrivateDpEvent(), 1)]), DELTA)


def product(rounds: PrivateRounds, site: int) -> float:
    """Return what a site that is drawn in secret would spend, with both rates multiplied."""
    release: Any = rounds.release(site)
    noise, of_batch = release.noise_multiplier, getattr(release, "sampling_rate", 1.0)
    cohort: Any = rounds.scenario.cohort
    rate = of_batch * cohort.num_expected(len(rounds.names)) / len(rounds.names)
    num = rounds.scenario.rounds * getattr(release, "num_steps", 1)
    step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
    return epsilon(history([(step, num)]), DELTA)


def not_doubled(rounds: PrivateRounds, site: int) -> float:
    """Return what it would cost if replacing a site's data moved its update by C."""
    noise = dp_event.GaussianDpEvent(rounds.release(site).noise_multiplier)
    return epsilon(history([(noise, len(rounds.rounds_of(site)))]), DELTA)


def check_claim(claim: Claim, scenario: Scenario, num_sites: int) -> None:
    """Inputs that a known number of Gaussian releases tells apart cost no less than that.

    The cohorts are known, as a run's record has them, and no image is sampled. Where a site's data
    are replaced, an update may turn round, which is 2 C.
    """
    rounds, site = claims_of(scenario, num_sites)
    mechanism: Any = rounds.privacy.mechanism
    reach = 2 if mechanism.relation == "replace_one" else 1
    num = len(rounds.rounds_of(site))
    least = of_gaussian(reach * math.sqrt(num) / mechanism.noise_multiplier)
    assert claim(rounds, site) >= least - 1e-3


NUM_UNITS = 10
AT_SITES = {"kind": "example_level", "noise_multiplier": 5.0}
CLIENT_LEVEL = {"kind": "client_level", "noise_multiplier": 5.0}
DP_FTRL = {"kind": "dp_ftrl", "noise_multiplier": 5.0}
LOCAL = {"kind": "local", "noise_multiplier": 5.0}
FEW = {"kind": "fixed_size", "num_sites": 3}
TURNS = {"kind": "cyclic", "num_sites": 3}
CLAIMS: tuple[tuple[dict[str, Any], dict[str, Any], tuple[Claim, ...]], ...] = (
    (AT_SITES, {"kind": "all"}, (one_round,)),
    (AT_SITES, FEW, (one_round, product)),
    (CLIENT_LEVEL, {"kind": "all"}, (one_round,)),
    (CLIENT_LEVEL, FEW, (one_round, product)),
    (DP_FTRL, TURNS, (one_round, product)),
    (LOCAL, FEW, (one_round, product, not_doubled)),
)


@pytest.mark.parametrize(
    ("mechanism", "cohort", "wrong"),
    CLAIMS,
    ids=[f"{mechanism['kind']}, {cohort['kind']}" for mechanism, cohort, _ in CLAIMS],
)
def test_claims_that_forget_something_are_caught(
    tiny: Callable[..., Scenario],
    mechanism: dict[str, Any],
    cohort: dict[str, Any],
    wrong: tuple[Claim, ...],
) -> None:
    scenario = tiny(
        rounds=40,
        population={"num_sites": 12},
        client={"epochs": 1, "batch_size": NUM_UNITS},
        strategy={"kind": "weighted_mean", "weights": "uniform"},
        cohort=cohort,
        privacy={"mechanism": mechanism, "delta": DELTA},
    )
    check_claim(ours, scenario, 12)
    for claim in wrong:
        with pytest.raises(AssertionError):
            check_claim(claim, scenario, 12)
