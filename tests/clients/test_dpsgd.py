"""Private training against a second implementation, its guarantees, and bugs planted in a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest, norm
from torch import Tensor, nn

from clients.batch import Bags, Batch
from clients.dpsgd import DpSgd, PrivatelyTrained, train_private
from clients.objectives import BUILTIN, Context, CrossEntropy, Margin, Objective
from clients.per_example import Mode
from clients.units import poisson_sample
from fedsim.models.networks import mlp, small_cnn

NUM_CLASSES = 2
MODES: tuple[Mode, ...] = ("layers", "functorch")
Clipping = Any
STEP = DpSgd(clip_norm=0.5, noise_multiplier=0.0, sampling_rate=1.0, num_steps=1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cnn(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return small_cnn(1, NUM_CLASSES, (4, 8), stride=1, group_size=4)


def perceptron(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(64, NUM_CLASSES, (6,))


NETWORKS = {"small_cnn": cnn, "mlp": perceptron}


@pytest.fixture(autouse=True)
def global_randomness_stays() -> Any:
    with torch.random.fork_rng():
        yield


def drawn(num: int = 12, seed: int = 0) -> Batch:
    generator = seeded(seed)
    images = torch.randn(num, 1, 8, 8, generator=generator)
    return Batch(images, torch.randint(NUM_CLASSES, (num,), generator=generator))


def in_bags(sizes: tuple[int, ...], seed: int = 0) -> Batch:
    examples = drawn(sum(sizes), seed)
    of_example = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(sum(sizes), generator=seeded(seed))
    responses = torch.rand(len(sizes), NUM_CLASSES, generator=seeded(seed))
    return replace(examples, bags=Bags(of_example[order], responses))


class SquaredBagLoss(Objective):
    """Squared distance of mean probabilities to responses, weighted by size."""

    kind: str = "squared_bag_loss"

    @property
    def couples_examples(self) -> bool:
        return True

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        assert batch.bags is not None
        means = batch.bags.means(model(batch.images).softmax(dim=1))
        errors = (means - batch.bags.responses).square().sum(1)
        return (errors * batch.bags.sizes).sum() / len(batch)


Trainer = Callable[..., PrivatelyTrained | None]


def by_hand(
    model: nn.Module,
    examples: Batch,
    mechanism: DpSgd,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    context: Context,
    sampling: torch.Generator,
    noise: torch.Generator,
    unit_of_example: Tensor | None = None,
    augment: Callable[[Batch], Batch] | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    bug: str | None = None,
) -> None:
    """Train privately, one example at a time, as one would write it; or with a bug planted."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if examples.bags is not None:
        unit_of_example = examples.bags.of_example
    unit_of = range(len(examples)) if unit_of_example is None else unit_of_example.tolist()
    num_units = max(unit_of) + 1
    members = [[e for e, u in enumerate(unit_of) if u == unit] for unit in range(num_units)]
    model.train()

    def gradient(batch: Batch) -> list[Tensor]:
        found = torch.autograd.grad(objective.loss(model, batch, context), parameters)
        return [torch.nan_to_num(g, nan=torch.inf) for g in found]

    def clipped(gradients: list[Tensor]) -> list[Tensor]:
        if mechanism.clipping == "per_layer":
            bound = mechanism.clip_norm / len(gradients) ** 0.5
            return [g * min(1.0, bound / float(g.norm())) for g in gradients]
        length = float(torch.cat([g.flatten() for g in gradients]).double().norm())
        if length == torch.inf or bug == "no_clip":
            return [g if bug == "no_clip" else torch.zeros_like(g) for g in gradients]
        return [g * min(1.0, mechanism.clip_norm / max(length, 1e-30)) for g in gradients]

    for _ in range(mechanism.num_steps):
        draws = torch.rand(num_units, generator=sampling, dtype=torch.float64)
        chosen = [unit for unit in range(num_units) if draws[unit] < mechanism.sampling_rate]
        sums = [torch.zeros_like(p) for p in parameters]
        for unit in chosen:
            if examples.bags is not None:
                whole = [gradient(examples.select_bags(torch.tensor([unit])))]
                if bug == "rows":
                    whole = rows_of_bag(model, examples, unit, parameters, objective)
            else:
                whole = []
                for example in members[unit]:
                    copies = examples.select(torch.tensor([example] * mechanism.num_augmentations))
                    whole.append(gradient(augment(copies) if augment else copies))
                if bug != "rows":
                    whole = [[torch.stack(gs).sum(0) for gs in zip(*whole, strict=True)]]
            for one in whole:
                sums = [s + g for s, g in zip(sums, clipped(one), strict=True)]
        expected = mechanism.sampling_rate * num_units
        denominator = max(len(chosen), 1) if bug == "actual_denominator" else expected
        for p, total in zip(parameters, sums, strict=True):
            std = mechanism.noise_multiplier * mechanism.clip_norm
            draw = (torch.randn(p.shape, generator=noise, dtype=torch.float64) * std).float()
            on_mean = bug == "noise_on_mean"
            p.grad = total / denominator + draw if on_mean else (total + draw) / denominator
        if penalty is not None:
            slopes = torch.autograd.grad(penalty(model), parameters)
            for p, slope in zip(parameters, slopes, strict=True):
                assert p.grad is not None
                p.grad = p.grad + slope
        optimizer.step()


def rows_of_bag(
    model: nn.Module,
    examples: Batch,
    unit: int,
    parameters: list[nn.Parameter],
    objective: Objective,
) -> list[list[Tensor]]:
    """Return what reaches the parameters through each row of a bag's images, as hooks see it."""
    bag = examples.select_bags(torch.tensor([unit]))
    outputs = model(bag.images)
    value = objective.loss(lambda _: outputs, bag, context_of(examples))  # type: ignore[arg-type]
    (slopes,) = torch.autograd.grad(value, outputs, retain_graph=True)
    return [
        list(torch.autograd.grad((output * slope).sum(), parameters, retain_graph=True))
        for output, slope in zip(outputs, slopes, strict=True)
    ]


def context_of(examples: Batch) -> Context:
    return Context(torch.ones(NUM_CLASSES))


def trained(
    trainer: Trainer,
    model: nn.Module,
    examples: Batch,
    mechanism: DpSgd,
    objective: Objective | None = None,
    *,
    learning_rate: float = 0.5,
    seed: int = 0,
    **options: Any,
) -> PrivatelyTrained | None:
    return trainer(
        model,
        examples,
        mechanism,
        objective or CrossEntropy(),
        torch.optim.SGD(model.parameters(), learning_rate, momentum=0.5),
        context=context_of(examples),
        sampling=seeded(seed + 1),
        noise=seeded(seed + 2),
        **options,
    )


def released(
    trainer: Trainer, model: nn.Module, examples: Batch, mechanism: DpSgd, **options: Any
) -> Tensor:
    """Return the gradient of one step, flat."""
    trained(trainer, model, examples, mechanism, learning_rate=0.0, **options)
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in gradients if g is not None])


def assert_close(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-5)


def assert_equal_bits(one: nn.Module, other: nn.Module) -> None:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def differ(one: nn.Module, other: nn.Module, by: float = 1e-3) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs) > by


# Against a second implementation


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("units", ["examples", "patients", "bags"])
def test_it_is_the_loop_over_single_examples_that_one_would_write(
    network: Callable[[], nn.Module], clipping: Clipping, mode: Mode, units: str
) -> None:
    examples, objective, options = drawn(), None, {}
    if units == "patients":
        options = {"unit_of_example": torch.tensor([0, 1, 2, 0, 0, 3, 1, 4, 4, 2, 5, 0])}
    if units == "bags":
        examples, objective = in_bags((3, 2, 4, 3, 1)), SquaredBagLoss()
    mechanism = DpSgd(0.3, 0.7, 0.5, 4, clipping, max_physical_batch=5, mode=mode)
    ours, theirs, start = network(), network(), network()
    found = trained(train_private, ours, examples, mechanism, objective, **options)
    trained(by_hand, theirs, examples, mechanism, objective, **options)
    assert_close(ours, theirs)
    assert differ(ours, start)
    assert found is not None
    assert found.num_clipped > 0


@pytest.mark.parametrize(
    "objective",
    [kind for kind in BUILTIN if "labels" in kind.takes and not kind().learns_numbers],
)
def test_every_objective_is_trained_as_by_hand_or_refused(objective: type[Objective]) -> None:
    mechanism = DpSgd(0.3, 0.5, 0.6, 3)
    ours, theirs = cnn(), cnn()
    if objective().couples_examples:
        with pytest.raises(ValueError, match="couples the examples"):
            trained(train_private, ours, drawn(), mechanism, objective())
        return
    trained(train_private, ours, drawn(), mechanism, objective())
    trained(by_hand, theirs, drawn(), mechanism, objective())
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    "objective", [CrossEntropy(class_weights="balanced"), Margin(form="batch_probabilities")]
)
def test_objectives_that_couple_examples_are_refused(objective: Objective) -> None:
    with pytest.raises(ValueError, match="couples the examples of a batch"):
        trained(train_private, cnn(), drawn(), STEP, objective)


@pytest.mark.parametrize("mode", MODES)
def test_an_example_is_the_mean_of_its_changed_copies(mode: Mode) -> None:
    def augment(batch: Batch) -> Batch:
        number = torch.arange(len(batch)) % 3
        return replace(batch, images=batch.images * (1 + number[:, None, None, None]))

    mechanism = DpSgd(0.3, 0.5, 0.6, 3, num_augmentations=3, max_physical_batch=7, mode=mode)
    ours, theirs, once = cnn(), cnn(), cnn()
    trained(train_private, ours, drawn(), mechanism, augment=augment)
    trained(by_hand, theirs, drawn(), mechanism, augment=augment)
    trained(train_private, once, drawn(), replace(mechanism, num_augmentations=1), augment=augment)
    assert_close(ours, theirs)
    assert differ(ours, once)


def test_copies_without_a_change_and_of_bags_are_refused() -> None:
    mechanism = replace(STEP, num_augmentations=2)
    with pytest.raises(ValueError, match="need an `augment`"):
        trained(train_private, cnn(), drawn(), mechanism)
    with pytest.raises(ValueError, match="not in bags"):
        trained(train_private, cnn(), in_bags((2, 3)), mechanism, augment=lambda batch: batch)


def test_a_penalty_of_the_parameters_is_added_after_the_noise_as_it_is() -> None:
    start = [p.detach().clone() for p in perceptron(1).parameters()]

    def penalty(model: nn.Module) -> Tensor:
        pairs = zip(model.parameters(), start, strict=True)
        return 50 * torch.stack([(w - w_t).square().sum() for w, w_t in pairs]).sum()

    mechanism = DpSgd(0.1, 0.5, 0.5, 3)
    ours, theirs = perceptron(), perceptron()
    trained(train_private, ours, drawn(), mechanism, penalty=penalty, learning_rate=0.001)
    trained(by_hand, theirs, drawn(), mechanism, penalty=penalty, learning_rate=0.001)
    assert_close(ours, theirs)
    model = perceptron()
    with_it = released(train_private, model, drawn(), mechanism, penalty=penalty)
    slopes = torch.autograd.grad(penalty(model), list(model.parameters()))
    without = released(train_private, model, drawn(), mechanism)
    expected = torch.cat([slope.flatten() for slope in slopes])
    torch.testing.assert_close(with_it - without, expected, rtol=1e-4, atol=1e-4)
    assert expected.norm() > 10 * mechanism.clip_norm


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_parts_of_a_sample_add_up_to_the_whole(size: int, mode: Mode) -> None:
    whole, parts = cnn(), cnn()
    mechanism = DpSgd(0.3, 0.5, 0.9, 3, mode=mode)
    one = trained(train_private, whole, drawn(), mechanism)
    many = trained(train_private, parts, drawn(), replace(mechanism, max_physical_batch=size))
    assert_close(whole, parts)
    assert one is not None
    assert many is not None
    assert many == replace(one, loss=many.loss)
    assert many.loss == pytest.approx(one.loss, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
def test_the_steps_are_those_of_opacus(clipping: Clipping, monkeypatch: pytest.MonkeyPatch) -> None:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers import optimizer as opacus
    from opacus.optimizers.perlayeroptimizer import DPPerLayerOptimizer

    def in_double_precision(std: float, reference: Tensor, generator: Any, **_: Any) -> Tensor:
        draw = torch.normal(0.0, std, reference.shape, generator=generator, dtype=torch.float64)
        return draw.float()

    monkeypatch.setattr(opacus, "_generate_noise", in_double_precision)
    examples, ours, theirs = drawn(), cnn(), cnn()
    mechanism = DpSgd(0.3, 1.3, 1.0, 4, clipping)
    trained(train_private, ours, examples, mechanism)
    wrapped = GradSampleModule(theirs)
    sgd = torch.optim.SGD(wrapped.parameters(), 0.5, momentum=0.5)
    bound: Any = mechanism.clip_norm
    if clipping == "per_layer":
        num = len(list(theirs.parameters()))
        bound = [mechanism.clip_norm / num**0.5] * num
    optimizer = (DPOptimizer if clipping == "flat" else DPPerLayerOptimizer)(
        sgd,
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=bound,
        expected_batch_size=len(examples),
        generator=seeded(2),
    )
    for _ in range(mechanism.num_steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(wrapped(examples.images), examples.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert_close(ours, wrapped.to_standard_module())
    assert differ(ours, cnn())


@pytest.mark.parametrize("size", [1, 3])
def test_without_clipping_and_noise_it_is_the_gradient_of_the_mean_objective(size: int) -> None:
    examples, expected = drawn(), cnn()
    value = nn.functional.cross_entropy(expected(examples.images), examples.labels)
    slopes = torch.autograd.grad(value, list(expected.parameters()))
    mechanism, units = replace(STEP, clip_norm=1e6), torch.arange(12) // size
    found = released(train_private, cnn(), examples, mechanism, unit_of_example=units)
    whole = torch.cat([slope.flatten() for slope in slopes])
    torch.testing.assert_close(found, size * whole, rtol=1e-4, atol=1e-6)


# Checks that bugs must fail


def clipped_sum(trainer: Trainer, model: nn.Module, examples: Batch, **options: Any) -> Tensor:
    """Return the sum of clipped gradients of all units, flat, over C."""
    mechanism, units = options.pop("mechanism", STEP), options.get("unit_of_example")
    found = released(trainer, model, examples, mechanism, **options).double()
    num_units = len(examples) if units is None else int(units.max()) + 1
    return found * (examples.num_bags or num_units) / mechanism.clip_norm


def check_sensitivity(trainer: Trainer) -> None:
    """One bag of alike examples more moves the clipped sum by C at most."""
    image = 5 * torch.randn(1, 1, 8, 8, generator=seeded(4))
    bags = Bags(torch.arange(3).repeat_interleave(5), torch.tensor([[0.0, 1.0]] * 3))
    examples = Batch(image.repeat(15, 1, 1, 1), torch.ones(15, dtype=torch.int64), bags)
    fewer = examples.select_bags(torch.tensor([0, 1]))
    mechanism = replace(STEP, clip_norm=1e-3)
    for model in (cnn(), perceptron()):
        many, few = (
            clipped_sum(trainer, model, bags, mechanism=mechanism, objective=SquaredBagLoss())
            for bags in (examples, fewer)
        )
        assert 0.999 < float((many - few).norm()) < 1.001


def check_denominator(trainer: Trainer) -> None:
    """Alike units of long gradients add C each, over the expected number of them."""
    image = torch.randn(1, 1, 8, 8, generator=seeded(4))
    examples = Batch(image.repeat(40, 1, 1, 1), torch.ones(40, dtype=torch.int64))
    mechanism = replace(STEP, clip_norm=1e-3, sampling_rate=0.25)
    sizes = set()
    for seed in range(6):
        size = len(poisson_sample(40, 0.25, seeded(seed + 1)))
        found = released(trainer, perceptron(), examples, mechanism, seed=seed)
        assert float(found.norm()) == pytest.approx(size * mechanism.clip_norm / 10, rel=1e-4)
        sizes.add(size)
    assert len(sizes) > 2


def check_noise(trainer: Trainer) -> None:
    """The noise has standard deviation sigma C over the expected number of units."""
    mechanism = DpSgd(clip_norm=0.2, noise_multiplier=3.0, sampling_rate=0.5, num_steps=1)
    torch.manual_seed(0)
    model = mlp(64, NUM_CLASSES, (200,))
    noisy = released(trainer, model, drawn(), mechanism)
    plain = released(trainer, model, drawn(), replace(mechanism, noise_multiplier=0.0))
    draws = (noisy - plain).numpy()
    scale = 3.0 * 0.2 / (0.5 * 12)
    assert kstest(draws, norm(scale=scale).cdf).pvalue > 0.01
    assert kstest(draws, norm(scale=1.1 * scale).cdf).pvalue < 1e-6
    assert kstest(draws, norm(scale=0.9 * scale).cdf).pvalue < 1e-6


CHECKS = (check_sensitivity, check_denominator, check_noise)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("trainer", [train_private, by_hand])
def test_the_guarantees_hold(check: Callable[[Trainer], None], trainer: Trainer) -> None:
    check(trainer)


@pytest.mark.parametrize(
    ("bug", "check"),
    [
        ("no_clip", check_sensitivity),
        ("rows", check_sensitivity),
        ("actual_denominator", check_denominator),
        ("noise_on_mean", check_noise),
    ],
)
def test_a_planted_bug_fails(bug: str, check: Callable[[Trainer], None]) -> None:
    def wrong(*args: Any, **options: Any) -> None:
        by_hand(*args, **options, bug=bug)

    with pytest.raises(AssertionError):
        check(wrong)


def test_clipping_rows_lets_a_bag_of_five_alike_images_move_the_sum_by_five_c() -> None:
    image = 5 * torch.randn(1, 1, 8, 8, generator=seeded(4))
    bags = Bags(torch.zeros(5, dtype=torch.int64), torch.tensor([[0.0, 1.0]]))
    bag = Batch(image.repeat(5, 1, 1, 1), torch.ones(5, dtype=torch.int64), bags)
    mechanism = replace(STEP, clip_norm=1e-3)
    found = {
        bug: released(
            lambda *a, bug=bug, **o: by_hand(*a, **o, bug=bug),
            perceptron(),
            bag,
            mechanism,
            objective=SquaredBagLoss(),
        ).norm()
        / 1e-3
        for bug in (None, "rows")
    }
    assert found[None] == pytest.approx(1, rel=1e-3)
    assert found["rows"] == pytest.approx(5, rel=1e-3)


# Sensitivity


class MeanOutput(SquaredBagLoss):
    """The mean of what the network says of a bag."""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        assert batch.bags is not None
        return batch.bags.means(model(batch.images)).sum()


def test_one_image_of_a_bag_moves_the_sum_by_more_than_the_bag_may() -> None:
    """By C if the bag becomes a blank, by 2 C if one of its images is another."""
    examples, model = in_bags((3, 2)), nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))
    assert examples.bags is not None
    (other, *_) = (examples.bags.of_example == 0).nonzero().flatten().tolist()
    images = examples.images.clone()
    images[other] -= 10 * images[examples.bags.of_example == 0].sum(0)
    changed = replace(examples, images=images)
    blank = replace(examples, images=images * (examples.bags.of_example == 1).view(-1, 1, 1, 1))
    mechanism = replace(STEP, clip_norm=1e-3)
    sums = [
        released(train_private, model, batch, mechanism, objective=MeanOutput()) * 2
        for batch in (examples, changed, blank)
    ]
    assert float((sums[0] - sums[2]).norm()) == pytest.approx(1e-3, rel=1e-4)
    assert float((sums[0] - sums[1]).norm()) == pytest.approx(2e-3, rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3, 1e18, 1e30, float("inf"), float("nan")]),
    clip_norm=st.sampled_from([1e-4, 0.3, 50.0]),
    clipping=st.sampled_from(["flat", "per_layer"]),
    mode=st.sampled_from(MODES),
    network=st.sampled_from(list(NETWORKS.values())),
    size=st.integers(1, 4),
)
def test_no_unit_moves_the_clipped_sum_by_more_than_it_may(
    seed: int,
    scale: float,
    clip_norm: float,
    clipping: Clipping,
    mode: Mode,
    network: Callable[[int], nn.Module],
    size: int,
) -> None:
    mechanism = DpSgd(clip_norm, 0.0, 1.0, 1, clipping, max_physical_batch=4, mode=mode)
    base, more, instead = drawn(5, seed), drawn(size, seed + 1), drawn(size, seed + 2)
    model = network(seed)

    def sum_with(unit: Batch | None, factor: float = 1.0) -> Tensor:
        images, labels, units = base.images, base.labels, torch.arange(5)
        if unit is not None:
            images = torch.cat([images, factor * unit.images])
            labels = torch.cat([labels, unit.labels])
            units = torch.cat([units, torch.full((len(unit),), 5)])
        examples = Batch(images, labels)
        return clipped_sum(
            train_private, model, examples, mechanism=mechanism, unit_of_example=units
        )

    without, added, replaced = sum_with(None), sum_with(more, scale), sum_with(instead, 7.0)
    assert float((added - without).norm()) <= 1 + 1e-4
    assert float((added - replaced).norm()) <= 2 + 1e-4


# What is not finite, and what is empty


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_example_that_is_not_finite_adds_nothing_and_is_counted(
    network: Callable[[], nn.Module], mode: Mode, value: float
) -> None:
    examples = drawn()
    images = examples.images.clone()
    images[3] = value
    mechanism = replace(STEP, mode=mode, max_physical_batch=4)
    others = examples.select(torch.tensor([e for e in range(12) if e != 3]))
    spoilt = replace(examples, images=images)
    whole = clipped_sum(train_private, network(), spoilt, mechanism=mechanism)
    expected = clipped_sum(by_hand, network(), others, mechanism=mechanism)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    found = trained(train_private, network(), spoilt, mechanism)
    assert found is not None
    assert (found.num_not_finite, found.num_units) == (1, 12)
    assert found.loss == found.loss


def test_an_empty_sample_is_a_step_with_noise_alone() -> None:
    mechanism = DpSgd(0.5, 2.0, 1e-9, 3)
    model, start = perceptron(), perceptron()
    found = trained(train_private, model, drawn(), mechanism)
    assert found is not None
    assert (found.num_empty, found.num_units) == (3, 0)
    assert found.loss != found.loss
    theirs = perceptron()
    trained(by_hand, theirs, drawn(), mechanism)
    assert_close(model, theirs)
    assert differ(model, start)


class Counting(torch.optim.SGD):
    """Counts its steps and takes none."""

    num_steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        type(self).num_steps += 1


def test_the_number_of_steps_is_exact_whatever_is_sampled() -> None:
    for num_steps in (1, 7):
        Counting.num_steps = 0
        model = perceptron()
        train_private(
            model,
            drawn(),
            DpSgd(1.0, 1.0, 0.05, num_steps),
            CrossEntropy(),
            Counting(model.parameters(), 0.1),
            context=context_of(drawn()),
            sampling=seeded(),
            noise=seeded(1),
        )
        assert Counting.num_steps == num_steps


# Sampling


def test_every_unit_is_sampled_at_the_rate_and_sizes_vary_as_binomials() -> None:
    num, rate, steps = 50, 0.2, 4000
    generator = seeded()
    samples = [poisson_sample(num, rate, generator) for _ in range(steps)]
    counts = torch.cat(samples).bincount(minlength=num).numpy()
    total = counts.sum()
    assert abs(total - num * rate * steps) < 4 * (num * steps * rate * (1 - rate)) ** 0.5
    assert chisquare(counts).pvalue > 1e-3
    sizes = torch.tensor([float(len(sample)) for sample in samples])
    assert float(sizes.var()) == pytest.approx(num * rate * (1 - rate), rel=0.1)
    together = sum(0 in sample and 1 in sample for sample in (s.tolist() for s in samples))
    assert abs(together / steps - rate**2) < 4 * (rate**2 / steps) ** 0.5
    assert not sizes.eq(sizes[0]).all()  # as a fixed-size sample would be
    assert poisson_sample(num, 1.0, generator).tolist() == list(range(num))


def test_the_trainer_sees_whole_units_in_the_samples_drawn() -> None:
    units = torch.tensor([0, 1, 2, 0, 0, 3, 1, 4, 4, 2, 5, 0])
    examples = drawn()
    numbered = replace(
        examples, images=torch.arange(12.0)[:, None, None, None].expand(12, 1, 8, 8) + 0
    )
    seen: list[list[int]] = []

    def augment(batch: Batch) -> Batch:
        seen.append([int(image[0, 0, 0]) for image in batch.images])
        return batch

    mechanism = DpSgd(1.0, 1.0, 0.5, 6, max_physical_batch=5)
    trained(train_private, cnn(), numbered, mechanism, augment=augment, unit_of_example=units)
    generator = seeded(1)
    expected = [
        example
        for _ in range(6)
        for unit in poisson_sample(6, 0.5, generator).tolist()
        for example in range(12)
        if units[example] == unit
    ]
    assert [example for part in seen for example in part] == expected
    for part in seen:
        assert len(part) <= 5
        assert all(sorted(part).count(e) == 1 for e in part)
        whole = {int(units[e]) for e in part}
        assert sorted(part) == [e for e in range(12) if int(units[e]) in whole]


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([0, 0, 2] * 4, "without a gap"),
        ([-1, 0, 1] * 4, "from 0"),
        ([0, 1], "2 examples have a unit, there are 12"),
    ],
)
def test_units_that_are_misnumbered_are_refused(units: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(train_private, cnn(), drawn(), STEP, unit_of_example=torch.tensor(units))


def test_a_site_without_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="no example"):
        trained(train_private, cnn(), drawn().select(torch.arange(0)), STEP)


def test_bags_are_the_units_and_are_not_redrawn() -> None:
    examples = in_bags((3, 4))
    with pytest.raises(ValueError, match="these are the units"):
        trained(train_private, cnn(), examples, STEP, unit_of_example=torch.arange(7))
    assert examples.bags is not None
    with pytest.raises(ValueError, match="drawn anew"):
        trained(train_private, cnn(), replace(examples, redrawn=(examples.bags,)), STEP)


# A function of its inputs


def test_equal_generators_give_equal_bits_whatever_was_trained_between() -> None:
    mechanism = DpSgd(0.5, 1.0, 0.5, 3)
    model, start = cnn(), cnn().state_dict()
    results = []
    for site in (0, 1, 0):
        model.load_state_dict(start)
        found = trained(train_private, model, drawn(seed=site), mechanism, seed=site)
        results.append(({k: v.clone() for k, v in model.state_dict().items()}, found))
    (first, one), (other, _), (again, two) = results
    assert one == two
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_nothing_is_left_on_the_model() -> None:
    def traces(model: nn.Module) -> list[Any]:
        modules = [(sorted(vars(m)), len(m._forward_hooks)) for m in model.modules()]
        return [modules, [sorted(vars(p)) for p in model.parameters()]]

    for mode in MODES:
        model = cnn()
        before, state = traces(model), torch.get_rng_state()
        trained(train_private, model, drawn(), replace(STEP, mode=mode))
        assert traces(model) == before
        assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(RuntimeError):
        trained(train_private, model, drawn(), STEP, augment=lambda b: replace(b, images=b.labels))
    assert traces(model) == before


def test_frozen_parameters_stay_and_draw_no_noise() -> None:
    ours, theirs = cnn(), cnn()
    for model in (ours, theirs):
        model.get_parameter("0.weight").requires_grad_(False)
    mechanism = DpSgd(0.3, 1.0, 0.5, 3)
    trained(train_private, ours, drawn(), mechanism)
    trained(by_hand, theirs, drawn(), mechanism)
    assert_close(ours, theirs)
    assert torch.equal(ours.get_parameter("0.weight"), cnn().get_parameter("0.weight"))


def test_batch_normalisation_is_refused_by_the_name_of_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(ValueError, match=r"layer '1' \(BatchNorm2d\) normalises"):
        trained(train_private, model, drawn(), STEP)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm > 0"),
        ({"clip_norm": float("inf")}, "finite clip_norm"),
        ({"noise_multiplier": -1.0}, "noise_multiplier >= 0"),
        ({"sampling_rate": 0.0}, r"in \(0, 1\]"),
        ({"sampling_rate": 1.1}, r"in \(0, 1\]"),
        ({"num_steps": 0}, "at least one step"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STEP, **options)
