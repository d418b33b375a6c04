"""Gradients of single examples against torch's for each alone and against Opacus' own modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clients.batch import Batch
from clients.dpsgd import DpSgd, train_private
from clients.objectives import Context, CrossEntropy
from clients.per_example import Mode, PerUnit
from clients.private_models import made_private, suited_mode, unsuitable
from clients.unit_gradients import Formed, Outer, clip
from fedsim.models import Mlp, Model, MonaiNetwork, SmallCnn

MODES: tuple[Mode, ...] = ("layers", "functorch")
IMAGES = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture(autouse=True)
def fixed_weights() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Residual(nn.Module):
    """Adds its input in place, and uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.act(self.conv(x)))
        out += x
        return self.act(out)


class Scaled(nn.Module):
    """Holds a parameter of its own above a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * torch.tanh(self.inner(x))


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(torch.tanh(self.one(x)))
        return out


class Tokens(nn.Module):
    """Turns pixels into a sequence and back."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.flatten(2).transpose(1, 2))
        return out.mean(1)


class Attention(nn.Module):
    """Shows one layer three tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out


class Centred(nn.Module):
    """Takes the mean of the batch off."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Remembering(nn.Module):
    """Keeps the mean of what it is shown."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return x


def images_to_four(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), *layers)


def head() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: images_to_four(nn.Conv2d(4, 4, 3, stride=2, padding=1), *head()),
    "dilated": lambda: images_to_four(nn.Conv2d(4, 4, 2, dilation=2, bias=False), *head()),
    "grouped": lambda: images_to_four(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 4, 1), *head()),
    "depthwise": lambda: images_to_four(nn.Conv2d(4, 4, 3, groups=4), *head()),
    "circular": lambda: images_to_four(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), *head()
    ),
    "same": lambda: images_to_four(nn.Conv2d(4, 4, 3, padding="same"), *head()),
    "transposed": lambda: images_to_four(nn.ConvTranspose2d(4, 4, 3), *head()),
    "group_norm": lambda: images_to_four(nn.GroupNorm(2, 4), nn.ReLU(inplace=True), *head()),
    "instance_norm": lambda: images_to_four(nn.InstanceNorm2d(4, affine=True), *head()),
    "layer_norm": lambda: images_to_four(nn.LayerNorm([4, 6, 6]), nn.PReLU(), *head()),
    "residual": lambda: images_to_four(Residual(), *head()),
    "scaled": lambda: images_to_four(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Scaled(), Tied()),
    "tokens": lambda: images_to_four(Tokens(nn.Linear(4, 4)), nn.Linear(4, 3, bias=False)),
}


def rows(model: nn.Module, mode: Mode) -> dict[nn.Parameter, Tensor]:
    with PerUnit(model, mode) as per_unit:
        _, found = per_unit.gradients(
            lambda: cross_entropy(model(IMAGES), LABELS, reduction="sum"), len(IMAGES)
        )
    return {parameter: gradients.formed().values for parameter, gradients in found.items()}


def one_by_one(model: nn.Module) -> dict[nn.Parameter, Tensor]:
    parameters = list(model.parameters())
    found = [
        torch.autograd.grad(cross_entropy(model(image[None]), label[None]), parameters)
        for image, label in zip(IMAGES, LABELS, strict=True)
    ]
    return dict(zip(parameters, map(torch.stack, zip(*found, strict=True)), strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_gradients_are_those_of_each_example_alone(
    network: Callable[[], nn.Module], mode: Mode
) -> None:
    model = network()
    ours, expected = rows(model, mode), one_by_one(model)
    assert ours.keys() == expected.keys()
    for parameter, alone in expected.items():
        torch.testing.assert_close(ours[parameter], alone, rtol=1e-4, atol=1e-6)
        assert alone.abs().max() > 0


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_layers_are_treated_one_by_one_where_that_is_right(
    network: Callable[[], nn.Module],
) -> None:
    assert suited_mode(network(), (2, 8, 8)) == "layers"


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("theirs", ["hooks", "functorch", "ew"])
@pytest.mark.parametrize("network", ["strided", "grouped", "instance_norm"])
def test_gradients_are_those_of_the_modes_of_opacus(network: str, theirs: str) -> None:
    from opacus.grad_sample import wrap_model

    model = NETWORKS[network]()
    ours = list(rows(model, "layers").values())
    wrapped: Any = wrap_model(model, grad_sample_mode=theirs, loss_reduction="sum")
    cross_entropy(wrapped(IMAGES), LABELS, reduction="sum").backward()  # type: ignore[no-untyped-call]
    for mine, parameter in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad_sample, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_unit_are_added_up(mode: Mode) -> None:
    model, units = NETWORKS["grouped"](), torch.tensor([0, 0, 1, 2, 2])
    with PerUnit(model, mode) as per_unit:
        _, found = per_unit.gradients(
            lambda: cross_entropy(model(IMAGES), LABELS, reduction="sum"), 3, units
        )
    for parameter, alone in one_by_one(model).items():
        expected = torch.stack([alone[:2].sum(0), alone[2], alone[3:].sum(0)])
        torch.testing.assert_close(found[parameter].formed().values, expected, rtol=1e-4, atol=1e-6)


def test_an_input_that_is_changed_in_place_afterwards_is_noticed() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(x.mean((2, 3)).repeat(1, 2))
            out: Tensor = self.two(self.one(x))
            x.mul_(2)
            return out

    with pytest.raises(ValueError, match="'one' was shown is changed in place later"):
        rows(Changing(), "layers")


def test_outer_products_are_never_needed_formed() -> None:
    left, right, factors = torch.randn(5, 3), torch.randn(5, 4), torch.rand(5)
    outer, formed = Outer(left, right), Outer(left, right).formed()
    assert formed.values.shape == (5, 3, 4)
    torch.testing.assert_close(outer.squared_norms(), formed.squared_norms())
    torch.testing.assert_close(outer.weighted_sum(factors), formed.weighted_sum(factors))
    left_out = torch.tensor([False, True, False, False, True])
    torch.testing.assert_close(
        outer.without(left_out).formed().values, formed.without(left_out).values
    )


def test_gradients_within_their_bound_are_added_as_they_are() -> None:
    parameter, values = nn.Parameter(torch.zeros(3)), torch.rand(4, 3)
    for num_layers in (None, 1):
        clipped = clip({parameter: Formed(values)}, 1e3, num_layers)
        assert torch.equal(clipped.sums[parameter], torch.tensordot(torch.ones(4), values, 1))
        assert (int(clipped.num_clipped), int(clipped.num_not_finite)) == (0, 0)


# Which networks


def test_batch_and_tracking_instance_normalisation_are_named_frozen_or_without_weights() -> None:
    frozen = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).requires_grad_(False)
    assert unsuitable(frozen) == (
        "layer '1' (BatchNorm2d) normalises every example by the others of its batch"
    )
    bare = nn.Sequential(nn.BatchNorm2d(2, affine=False))
    assert "'0' (BatchNorm2d)" in (unsuitable(bare) or "")
    tracking = nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True))
    assert "keeps running statistics" in (unsuitable(tracking) or "")
    assert unsuitable(nn.Sequential(nn.InstanceNorm2d(2), nn.GroupNorm(1, 2))) is None


def test_batch_is_replaced_by_group_normalisation_in_a_copy_and_said() -> None:
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), *head())
    private, changes = made_private(model)
    (change,) = changes
    assert change.startswith("1: BatchNorm2d(6, ")
    assert "-> GroupNorm(2, 6, " in change
    assert unsuitable(private) is None
    assert unsuitable(model) is not None
    assert [n for n, _ in private.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert torch.equal(private.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert made_private(private)[1] == ()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Centred(), "for an example depends on the others shown"),
        (Remembering(), "1.mean keeps something of what the network is shown"),
        (nn.BatchNorm2d(4), "BatchNorm2d"),
    ],
)
def test_networks_that_mix_or_keep_examples_are_refused(layer: nn.Module, message: str) -> None:
    model = images_to_four(layer, *head())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        suited_mode(model, (2, 8, 8))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_layer_of_several_inputs_needs_the_network_as_a_function() -> None:
    model = nn.Sequential(images_to_four(Tokens(Attention())), nn.Linear(4, 3))
    assert suited_mode(model.eval(), (2, 8, 8)) == "functorch"
    assert not model.training
    for parameter, alone in one_by_one(model).items():
        torch.testing.assert_close(rows(model, "functorch")[parameter], alone, rtol=1e-4, atol=1e-6)


def test_dropout_is_no_hindrance_and_the_choice_leaves_global_randomness() -> None:
    model, state = images_to_four(nn.Dropout(), *head()), torch.get_rng_state()
    assert suited_mode(model, (2, 8, 8)) == "layers"
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


BUILTIN: dict[str, tuple[Model, int, bool]] = {
    "mlp": (Mlp(), 28, False),
    "small_cnn": (SmallCnn(), 28, False),
    "small_cnn stride 2": (SmallCnn(stride=2), 28, False),
    "DenseNet121": (MonaiNetwork(name="DenseNet121"), 64, True),
    "EfficientNetB0": (MonaiNetwork(name="EfficientNetB0"), 64, True),
    "ResNet18": (MonaiNetwork(name="ResNet18"), 33, True),
    "ResNet50": (MonaiNetwork(name="ResNet50"), 33, True),
}
"""Every network that a scenario can name: image size, and whether it has batch normalisation."""


@pytest.mark.slow
@pytest.mark.parametrize(("network", "image_size", "normalised"), BUILTIN.values(), ids=BUILTIN)
def test_every_network_of_ours_can_be_trained_privately_as_it_is_or_after_replacement(
    network: Model, image_size: int, normalised: bool
) -> None:
    model = network.build(1, 2, image_size)
    assert (unsuitable(model) is not None) == normalised
    private, changes = made_private(model)
    assert bool(changes) == normalised
    assert suited_mode(private, (1, image_size, image_size)) == "layers"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "image_size"), [("EfficientNetB0", 64), ("ResNet18", 33)])
def test_networks_of_monai_take_a_private_step_within_its_bound(name: Any, image_size: int) -> None:
    model = MonaiNetwork(name=name, normalisation="group").build(1, 2, image_size)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    examples = Batch(torch.rand(5, 1, image_size, image_size), torch.tensor([0, 1, 1, 0, 1]))
    found = train_private(
        model,
        examples,
        DpSgd(0.05, 0.0, 1.0, 1, max_physical_batch=2),
        CrossEntropy(),
        torch.optim.SGD(model.parameters(), 1.0),
        context=Context(torch.tensor([2, 3])),
        sampling=torch.Generator().manual_seed(0),
        noise=torch.Generator().manual_seed(1),
    )
    moved = torch.stack([(p.detach() - before[n]).norm() for n, p in model.named_parameters()])
    assert (found.num_units, found.num_not_finite) == (5, 0)
    assert found.num_clipped > 0
    assert 0 < float(moved.norm()) <= 0.05 * (1 + 1e-3)
