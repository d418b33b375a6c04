"""Terms against drift, inside the training loop: counted once, without a trace in the network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clients.batch import Batch
from clients.objectives import Context, CrossEntropy
from clients.regularisers import (
    BUILTIN,
    Contrastive,
    ControlVariates,
    Dynamic,
    Local,
    Proximal,
    Regulariser,
)
from clients.regularisers.features import Features, last_linear, watched
from clients.training import Plan, train

ALL = [Rule() for Rule in BUILTIN]
every_one = pytest.mark.parametrize("regulariser", ALL, ids=lambda r: r.kind)


def examples(num: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(num, 1, 4, 4, generator=generator), torch.arange(num) % 3)


def network(seed: int = 0, *, normalised: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(16, 8)]
        layers += [nn.BatchNorm1d(8), nn.Dropout(0.2)] if normalised else []
        return nn.Sequential(*layers, nn.Tanh(), nn.Linear(8, 3))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def local(model: nn.Module, regulariser: Regulariser) -> Local:
    """Return what is known at a site that kept something from an earlier round."""
    start = state(model)
    parameters = frozenset(name for name, _ in model.named_parameters())
    other = {name: start[name] / 2 for name in parameters}
    memory = state(network(7)) if isinstance(regulariser, Contrastive) else other
    received = {name: {n: start[n] / 3 for n in parameters} for name in regulariser.receives}
    return Local(start, parameters, received, memory, num_steps=4, learning_rate=0.1)


def trained(regulariser: Regulariser | None, plan: Plan) -> tuple[dict[str, Tensor], float]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model) as features:
        known = None if regulariser is None else local(model, regulariser)
        loss = train(
            model,
            examples(),
            plan,
            CrossEntropy(),
            optimizer,
            context=Context(examples().class_counts(3)),
            generator=torch.Generator().manual_seed(0),
            penalty=None
            if regulariser is None or known is None
            else partial(regulariser.penalty, local=replace(known, features=features)),
        )
    return state(model), loss


@every_one
@pytest.mark.parametrize("part_size", [1, 5])
def test_parts_of_a_batch_count_the_term_once(regulariser: Regulariser, part_size: int) -> None:
    whole, _ = trained(regulariser, Plan(12, steps=4))
    parts, _ = trained(regulariser, Plan(12, steps=4, part_size=part_size))
    plain, _ = trained(None, Plan(12, steps=4))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
    assert not torch.equal(whole["1.weight"], plain["1.weight"])


@every_one
def test_the_loss_is_that_of_the_objective_alone(regulariser: Regulariser) -> None:
    _, plain = trained(None, Plan(12, steps=1))
    _, found = trained(regulariser, Plan(12, steps=1))
    assert found == plain


@every_one
def test_nothing_that_is_known_is_changed(regulariser: Regulariser) -> None:
    model = network()
    with watched(model) as features:
        known = replace(local(model, regulariser), features=features)
        groups: list[Any] = [known.start, known.memory, *known.received.values()]
        before = [{name: t.clone() for name, t in group.items()} for group in groups]
        model(examples().images)
        regulariser.penalty(model, examples(), known).backward()
        regulariser.finish(model, known)
    for group, copy in zip(groups, before, strict=True):
        assert all(torch.equal(group[name], tensor) for name, tensor in copy.items())
    assert all(p.grad is not None for p in model.parameters()) or regulariser.needs_features


def test_only_shared_parameters_are_held() -> None:
    model = network()
    for regulariser in (Proximal(weight=1.0), ControlVariates(), Dynamic()):
        known = replace(local(model, regulariser), shared=frozenset({"1.weight"}))
        model.zero_grad()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        regulariser.penalty(model, examples(), known).backward()
        grads = {name: p.grad for name, p in model.named_parameters()}
        assert grads.pop("1.weight") is not None
        assert all(grad is None for grad in grads.values())
        finished = regulariser.finish(model, known)
        assert set(finished.memory) == ({"1.weight"} if regulariser.remembers else set())
        assert all(set(record) == {"1.weight"} for record in finished.sent.values())


def test_control_variates_become_the_mean_gradient_of_plain_steps() -> None:
    model, regulariser, gradients = network(), ControlVariates(), []
    known = local(model, regulariser)
    optimizer = torch.optim.SGD(model.parameters(), known.learning_rate)
    for _ in range(known.num_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(examples().images), examples().labels)
        parameters = dict(model.named_parameters())
        own = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        gradients.append(dict(zip(parameters, own, strict=True)))
        (loss + regulariser.penalty(model, examples(), known)).backward()
        optimizer.step()
    finished = regulariser.finish(model, known)
    for name, found in finished.memory.items():
        mean = torch.stack([step[name] for step in gradients]).mean(0)
        torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-5)
        change = found - known.memory[name]
        torch.testing.assert_close(finished.sent["control"][name], change, rtol=1e-4, atol=1e-5)


def test_other_weights_leave_no_trace_in_a_network() -> None:
    model = network(normalised=True)
    with watched(model) as features:
        model(examples().images)
        before = state(model)
        own = features.last
        other = features.under(state(network(3, normalised=True)), examples().images)
        assert model.training
    assert own.requires_grad
    assert not other.requires_grad
    assert not torch.equal(own, other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(model).items())
    elsewhere = network(3, normalised=True).eval()
    torch.testing.assert_close(other, elsewhere[:-1](examples().images))


def test_a_network_is_watched_for_a_block_alone() -> None:
    model = network()
    with watched(model) as features:
        model(examples().images)
        seen = features.last
    model(examples().images)
    assert features.last is seen


def test_without_a_linear_layer_there_are_no_features() -> None:
    assert last_linear(network()).out_features == 3
    with pytest.raises(ValueError, match="no linear layer"):
        Features(nn.Sequential(nn.Flatten()))


def test_the_contrastive_term_is_zero_before_a_site_has_a_model() -> None:
    model = network()
    with watched(model) as features:
        model(examples().images)
        known = replace(local(model, Contrastive()), memory={}, features=features)
        assert Contrastive().penalty(model, examples(), known) == 0


@every_one
def test_a_regulariser_is_a_value_with_its_source(regulariser: Regulariser) -> None:
    assert regulariser == regulariser.model_copy(deep=True)
    assert regulariser.reference.startswith("@")
    assert not regulariser.couples_examples
