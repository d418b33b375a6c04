"""What every strategy promises; a new one is tested by being listed in `BUILTIN`."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import strategies
from strategies import (
    BUILTIN,
    SERVER_OPTIMIZERS,
    CAGrad,
    GradientHarmonization,
    GramRule,
    Krum,
    Mgda,
    ServerSgd,
    Strategy,
    WeightedMean,
    WithServerOptimizer,
)

PLAIN: list[Strategy] = [Rule() for Rule in BUILTIN]
BY_EXAMPLES = [Rule(weights="examples") for Rule in BUILTIN if "weights" in Rule.model_fields]
PER_LAYER = [Rule(per="layer") for Rule in BUILTIN if issubclass(Rule, GramRule)]
OTHERS = [
    GradientHarmonization(form="pcgrad"),
    Mgda(normalise=True),
    Mgda(epsilon=0.1),
    CAGrad(c=2.0, weights="uniform"),
    Krum(num_byzantine=1, num_selected=2),
]
RULES = [*PLAIN, *BY_EXAMPLES, *PER_LAYER, *OTHERS]
OPTIMIZERS = [Rule() for Rule in SERVER_OPTIMIZERS] + [ServerSgd(learning_rate=0.5, momentum=0.9)]
ALL = [
    *RULES,
    *(WithServerOptimizer(strategy=s, optimizer=ServerSgd(momentum=0.9)) for s in PLAIN[3:6]),
    *(WithServerOptimizer(strategy=WeightedMean(), optimizer=o) for o in OPTIMIZERS),
]

ABSOLUTE = {"fed_exp", "q_fed_avg"}
"""Kinds with a constant in units of an update: for them scaled updates are other updates."""

SHORTENS_ALONE = {"q_fed_avg"}
"""Kinds that shorten even the update of a single site."""

SHAPES: dict[str, tuple[int, ...]] = {
    "conv": (4, 3, 3, 3),
    "bias": (4,),
    "scale": (),
    "one": (1,),
    "none": (0,),
}

MOVES_ALONE = {"fed_dyn"}
"""Kinds whose state moves the model by itself, whatever the updates of a round."""

every_strategy = pytest.mark.parametrize("strategy", ALL, ids=repr)


def in_every_state(strategies: Sequence[Strategy]) -> Any:
    """Run a test with each strategy: in its first round, and a later one if it has a state."""
    cases = [
        pytest.param(strategy, warm, id=f"{strategy!r}{' later' * warm}")
        for strategy in strategies
        for warm in ([False, True] if strategy.init({}, 1) else [False])
    ]
    return pytest.mark.parametrize(("strategy", "warm"), cases)


def shapes(strategy: Strategy | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of parameters, and of what the strategy collects beside them."""
    collected = () if strategy is None else strategy.collects
    return SHAPES | {f"{of}/{n}": shape for of in collected for n, shape in SHAPES.items()}


def make_updates(
    sites: int = 5,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    strategy: Strategy | None = None,
) -> dict[str, Tensor]:
    """Return generic updates that share a direction, away from ties, and what is collected."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(sites, *shape, generator=generator, dtype=torch.float64)
            + torch.randn(shape, generator=generator, dtype=torch.float64)
        ).to(dtype)
        for name, shape in shapes(strategy).items()
    }


def examples(sites: int = 5) -> Tensor:
    return torch.arange(10.0, 10.0 + sites, dtype=torch.float64)


def reported(strategy: Strategy, weights: Tensor) -> dict[str, Tensor]:
    """Return what the sites report beside their updates: positive, and different at each."""
    return {name: (weights - 8).double() for name in strategy.reports}


def aggregate(strategy: Strategy, updates: Any, weights: Tensor, state: Any) -> Any:
    return strategy.aggregate(updates, weights, state, reported(strategy, weights))


def state_of(strategy: Strategy, updates: dict[str, Tensor], warm: bool) -> Any:
    """Return the state before the first round, or after one with other updates."""
    parameters = {name: torch.zeros_like(updates[name][0]) for name in SHAPES}
    state = strategy.init(parameters, len(next(iter(updates.values()))))
    if not warm:
        return state
    sites, dtype = len(updates["bias"]), updates["bias"].dtype
    return aggregate(strategy, make_updates(sites, 1, dtype, strategy), examples(sites), state)[1]


def leaves(state: Any) -> Iterator[Any]:
    """Yield what a state holds, in order."""
    if isinstance(state, dict):
        for key, value in state.items():
            assert isinstance(key, str)
            yield from leaves(value)
    else:
        yield state


def copied(state: Any) -> Any:
    """Return a deep copy of a state."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


def assert_same(actual: Any, expected: Any) -> None:
    """Assert that two states, or updates by name, are equal bit for bit."""
    for a, b in zip(leaves(actual), leaves(expected), strict=True):
        assert type(a) is type(b)
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


@in_every_state(ALL)
def test_the_order_of_sites_does_not_matter(strategy: Strategy, warm: bool) -> None:
    updates = make_updates(strategy=strategy)
    state = state_of(strategy, updates, warm)
    found, _ = aggregate(strategy, updates, examples(), state)
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = {name: stack[order] for name, stack in updates.items()}
    again, _ = aggregate(strategy, permuted, examples()[order], state)
    for name, value in found.items():
        torch.testing.assert_close(again[name], value, rtol=1e-11, atol=1e-12)


@in_every_state(ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_call_changes_nothing_and_repeats(
    strategy: Strategy, warm: bool, dtype: torch.dtype
) -> None:
    updates, weights = make_updates(dtype=dtype, strategy=strategy), examples()
    state = state_of(strategy, updates, warm)
    before = copied(updates), weights.clone(), copied(state)
    first = aggregate(strategy, updates, weights, state)
    assert_same(updates, before[0])
    assert torch.equal(weights, before[1])
    assert_same(state, before[2])
    for other in (aggregate(strategy, updates, weights, state), aggregate(strategy, *before)):
        assert_same(other[0], first[0])
        assert_same(other[1], first[1])


@in_every_state(ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_names_shapes_and_dtypes_are_kept(
    strategy: Strategy, warm: bool, dtype: torch.dtype
) -> None:
    updates = make_updates(dtype=dtype, strategy=strategy)
    found, _ = aggregate(strategy, updates, examples(), state_of(strategy, updates, warm))
    assert {name: value.shape for name, value in found.items()} == SHAPES
    assert {value.dtype for value in found.values()} == {dtype}


@in_every_state([s for s in RULES if s.kind not in ABSOLUTE | MOVES_ALONE])
@pytest.mark.parametrize("factor", [1e-6, -3.0, 1e6])
def test_scaled_updates_scale_the_aggregate(strategy: Strategy, warm: bool, factor: float) -> None:
    updates = make_updates(strategy=strategy)
    state = state_of(strategy, updates, warm)
    found, _ = aggregate(strategy, updates, examples(), state)
    scaled, _ = aggregate(
        strategy, {name: factor * stack for name, stack in updates.items()}, examples(), state
    )
    for name, value in found.items():
        torch.testing.assert_close(scaled[name] / factor, value, rtol=1e-10, atol=1e-12)


@in_every_state([s for s in RULES if s.kind not in SHORTENS_ALONE | MOVES_ALONE])
def test_one_site_decides(strategy: Strategy, warm: bool) -> None:
    updates = make_updates(sites=1, strategy=strategy)
    found, _ = aggregate(strategy, updates, examples(1), state_of(strategy, updates, warm))
    for name, value in found.items():
        torch.testing.assert_close(value, updates[name][0], rtol=1e-15, atol=0)


@in_every_state([s for s in RULES if s.kind not in MOVES_ALONE])
def test_no_update_is_no_step(strategy: Strategy, warm: bool) -> None:
    updates = make_updates(strategy=strategy)
    state = state_of(strategy, updates, warm)
    zeros = {name: torch.zeros_like(stack) for name, stack in updates.items()}
    found, _ = aggregate(strategy, zeros, examples(), state)
    assert all(torch.equal(value, torch.zeros_like(value)) for value in found.values())


@in_every_state([s for s in ALL if s.mean is not None])
def test_what_needs_a_mean_alone_does_the_same_with_a_sum(strategy: Strategy, warm: bool) -> None:
    updates, weights, rule = make_updates(strategy=strategy), examples(), strategy.mean
    assert rule is not None
    state = state_of(strategy, updates, warm)
    expected, after = aggregate(strategy, updates, weights, state)
    told = reported(strategy, weights)
    sums = {name: torch.zeros_like(stack[0]) for name, stack in updates.items()}
    for k, n in enumerate(weights.tolist()):
        for name, stack in updates.items():
            own = {what: float(numbers[k]) for what, numbers in told.items()}
            sums[name] += rule.coefficient(n, own) * stack[k]
    mean = {name: value / rule.divisor(weights, told) for name, value in sums.items()}
    found, state = strategy.from_mean(mean, weights, state)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-14, atol=1e-15)
    for a, b in zip(leaves(state), leaves(after), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("strategy", [s for s in ALL if s.mean is None], ids=repr)
def test_what_needs_all_updates_refuses_a_mean(strategy: Strategy) -> None:
    updates = make_updates(strategy=strategy)
    mean = {name: stack.mean(0) for name, stack in updates.items()}
    with pytest.raises(TypeError, match="needs all updates at once"):
        strategy.from_mean(mean, examples(), state_of(strategy, updates, warm=False))


@every_strategy
def test_a_state_holds_tensors_and_numbers(strategy: Strategy) -> None:
    updates = make_updates(strategy=strategy)
    for warm in (False, True):
        state = state_of(strategy, updates, warm)
        assert all(isinstance(leaf, Tensor | bool | int | float) for leaf in leaves(state))


@every_strategy
def test_each_stack_is_read_once_or_for_the_whole_model_twice(strategy: Strategy) -> None:
    updates = make_updates(strategy=strategy)
    reads: list[str] = []

    class Counting(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            reads.append(name)
            return super().__getitem__(name)

    aggregate(strategy, Counting(updates), examples(), state_of(strategy, updates, warm=True))
    rule = strategy.strategy if isinstance(strategy, WithServerOptimizer) else strategy
    passes = 2 if isinstance(rule, GramRule) and rule.per == "model" else 1
    assert sorted(reads) == sorted([*updates] * passes)


@every_strategy
def test_a_strategy_is_a_value(strategy: Strategy) -> None:
    assert strategy == strategy.model_copy(deep=True)
    assert hash(strategy) == hash(strategy.model_copy(deep=True))
    assert strategy.reference.startswith("@")


def test_classes_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import strategies as s; s.PrincipalGradient()"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_exports_are_what_is_declared() -> None:
    assert len(set(strategies.__all__)) == len(strategies.__all__)
    assert all(hasattr(strategies, name) for name in strategies.__all__)
