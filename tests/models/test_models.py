"""Networks: right shapes, gradients everywhere, repeatable weights, and sizes as stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedsim.errors import ScenarioError
from fedsim.models import BUILTIN, Mlp, Model, MonaiNetwork, SmallCnn
from fedsim.plugins import kind_of
from fedsim.scenario import Scenario
from fedsim.seeds import Streams

CASES: dict[str, Model] = {
    "small_cnn": SmallCnn(),
    "small_cnn-stride-2": SmallCnn(stride=2),
    "small_cnn-wide": SmallCnn(widths=(8, 24), group_size=4),
    "small_cnn-one-block": SmallCnn(widths=(8,)),
    "small_cnn-groups-of-one": SmallCnn(widths=(4, 8), group_size=1),
    "small_cnn-stride-2-groups-of-one": SmallCnn(widths=(4, 8), group_size=1, stride=2),
    "mlp": Mlp(),
    "mlp-deep": Mlp(widths=(16, 8)),
    "mlp-linear": Mlp(widths=()),
    "monai": MonaiNetwork(),
    "monai-resnet": MonaiNetwork(name="ResNet18"),
}
SLOW = {"monai", "monai-resnet"}
models = pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, model in CASES.items()
    ],
)
TINIEST = 16
"""The smallest synthetic image."""


def images(num: int, channels: int, size: int) -> torch.Tensor:
    return torch.randn(num, channels, size, size, generator=torch.Generator().manual_seed(1))


def built(model: Model, channels: int = 1, classes: int = 2, size: int = 0) -> nn.Module:
    """Return the network with weights from a fixed stream, for the smallest images by default."""
    with Streams(5).torch_default("weights"):
        return model.build(channels, classes, size or model.min_image_size)


def test_every_built_in_model_is_tested() -> None:
    assert {kind_of(part) for part in BUILTIN} == {model.kind for model in CASES.values()}


@models
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 5)])
@pytest.mark.parametrize("larger", [0, 1, 13])
def test_logits_have_one_column_per_class(
    model: Model, channels: int, classes: int, larger: int
) -> None:
    size = model.min_image_size + larger
    logits = built(model, channels, classes, size).eval()(images(3, channels, size))
    assert logits.shape == (3, classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@models
@pytest.mark.parametrize("num", [1, 2])
def test_the_smallest_image_trains_every_parameter(model: Model, num: int) -> None:
    network = built(model, 3, 5).train()
    loss = nn.functional.cross_entropy(
        network(images(num, 3, model.min_image_size)), torch.arange(num)
    )
    loss.backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert not idle
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())


@models
def test_weights_come_from_the_global_stream_alone(model: Model) -> None:
    first = built(model).state_dict()
    torch.rand(3)
    again = built(model).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    with Streams(6).torch_default("weights"):
        other = model.build(1, 2, model.min_image_size).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


@models
def test_logits_of_an_image_do_not_depend_on_its_neighbours(model: Model) -> None:
    network, batch = (
        built(model, size=model.min_image_size + 4),
        images(6, 1, model.min_image_size + 4),
    )
    network.train(mode=model.kind != "monai")  # which has batch normalisation
    logits, order = network(batch), torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(network(batch[order]), logits[order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network(batch[:1]), logits[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_batch_normalisation_would_be_noticed_by_the_test_above() -> None:
    network, batch = built(MonaiNetwork()).train(), images(6, 1, 64)
    assert (network(batch)[:2] - network(batch[:2])).abs().max() > 1e-3


@models
def test_names_of_parameters_and_buffers_are_those_of_the_state(model: Model) -> None:
    network = built(model)
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert set(named) == set(network.state_dict())
    assert ("monai" in model.kind) == bool(dict(network.named_buffers()))


@pytest.mark.parametrize("stride", [1, 2])
def test_the_default_network_is_as_large_as_stated(stride: Any) -> None:
    by_hand = sum(
        9 * before * after + after + 2 * after for before, after in [(1, 16), (16, 32), (32, 64)]
    )
    network = built(SmallCnn(stride=stride), size=28)
    assert sum(p.numel() for p in network.parameters()) == by_hand + 64 * 2 + 2 == 23_650


def test_both_strides_have_the_same_parameters() -> None:
    shapes = [
        [parameter.shape for parameter in built(SmallCnn(stride=stride), 3, 5).parameters()]
        for stride in (1, 2)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [16, 28, 32, 64, 224])
def test_stride_2_costs_a_quarter_to_a_third_of_the_operations(size: int) -> None:
    def operations(stride: Any) -> int:
        network = built(SmallCnn(stride=stride), size=size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images(1, 1, size))
        return int(counter.get_total_flops())

    # A quarter where every block halves evenly; 28 pixels become 14, 7 and, rounded up, 4.
    assert 0.25 <= operations(2) / operations(1) < (0.3 if size == 28 else 0.2511)


@pytest.mark.parametrize("size", [8, 9, 15, 28, 64])
@pytest.mark.parametrize(("stride", "extra"), [(1, 0), (2, 1)], ids=["down", "up"])
def test_every_block_halves_the_image(size: int, stride: Any, extra: int) -> None:
    network: Any = built(SmallCnn(stride=stride), size=size)
    blocks = network[
        : next(n for n, x in enumerate(network) if isinstance(x, nn.AdaptiveAvgPool2d))
    ]
    left = size
    for _ in range(3):
        left = (left + extra) // 2
    assert blocks(images(1, 1, size)).shape == (1, 64, left, left)


@pytest.mark.parametrize("name", ["small_cnn", "small_cnn-wide"])
def test_one_pixel_less_leaves_nothing(name: str) -> None:
    model = CASES[name]
    with pytest.raises(RuntimeError, match="Output size is too small"):
        built(model)(images(1, 1, model.min_image_size - 1))


def test_a_lone_pixel_in_a_group_of_its_own_cannot_be_trained() -> None:
    model = CASES["small_cnn-stride-2-groups-of-one"]
    with pytest.raises(ValueError, match="more than 1 value"):
        built(model).train()(images(1, 1, model.min_image_size - 1))


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "small_cnn", "widths": [8] * 5},
        {"kind": "small_cnn", "widths": [2] * 4, "group_size": 1, "stride": 2},
        {"kind": "monai", "name": "DenseNet121"},
    ],
)
def test_scenarios_refuse_smaller_images(
    tiny: Callable[..., Scenario], model: dict[str, Any]
) -> None:
    def scenario(size: int) -> Scenario:
        source = {"kind": "synthetic", "image_size": size, "num_examples": 120}
        return tiny(model=model, data={"source": source, "task": "ordinal"})

    least = max(scenario(256).model.min_image_size, TINIEST)
    assert scenario(least).model.min_image_size == least
    with pytest.raises(ScenarioError, match=f"at least {least} pixels, these have {least - 1}"):
        scenario(least - 1)


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (SmallCnn, {"widths": (12,)}, r"multiple of group_size \(8\), got \[12\]"),
        (SmallCnn, {"widths": (16, 0)}, r"positive multiple .* got \[16, 0\]"),
        (SmallCnn, {"widths": (-8,)}, r"positive multiple .* got \[-8\]"),
        (SmallCnn, {"widths": (8,), "group_size": 16}, r"multiple of group_size \(16\)"),
        (SmallCnn, {"widths": ()}, "at least 1 item"),
        (SmallCnn, {"group_size": 0}, "greater than 0"),
        (SmallCnn, {"stride": 3}, "1 or 2"),
        (Mlp, {"widths": (0,)}, "greater than 0"),
        (Mlp, {"widths": (8, -1)}, "greater than 0"),
        (MonaiNetwork, {"name": "VGG16"}, "DenseNet121"),
        (SmallCnn, {"depth": 3}, "not permitted"),
    ],
)
def test_what_cannot_be_built_is_refused(
    part: type[Model], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        part(**options)


def test_a_scenario_says_where_a_width_is_wrong(tiny: Callable[..., Scenario]) -> None:
    with pytest.raises(ScenarioError, match=r"model\n  every width must be .* got \[12\]"):
        tiny(model={"kind": "small_cnn", "widths": [12]})
    with pytest.raises(ScenarioError, match=r"model\.widths\.1\n  expected .* > 0 .*got 0"):
        tiny(model={"kind": "mlp", "widths": [8, 0]})


def test_a_network_without_hidden_layers_is_linear() -> None:
    network, batch = built(Mlp(widths=()), size=4), images(2, 1, 4)
    middle = network(batch.mean(0, keepdim=True))
    torch.testing.assert_close(middle[0], network(batch).mean(0))
    assert sum(p.numel() for p in network.parameters()) == 2 * 16 + 2


MONAI = ("DenseNet121", "EfficientNetB0", "ResNet18", "ResNet50")


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MONAI)
def test_every_network_of_monai_takes_a_training_step(name: Any, channels: int) -> None:
    model = MonaiNetwork(name=name)
    network = built(model, channels, 5).train()
    batch = images(4, channels, model.min_image_size)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    logits = network(batch)
    assert logits.shape == (4, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 4])).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    moved = [not torch.equal(b, p) for b, p in zip(before, network.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)  # EfficientNet leaves out blocks at random
    network.eval()
    assert torch.equal(network(batch), network(batch))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), list(zip(MONAI, (61, 64, 33, 33), strict=True)))
def test_a_batch_of_one_can_be_normalised_down_to_the_size_stated(name: Any, least: int) -> None:
    model = MonaiNetwork(name=name)
    network = built(model).train()
    for size in (model.min_image_size, least):
        assert network(images(1, 1, size)).isfinite().all()
    with pytest.raises((ValueError, RuntimeError), match=r"more than 1 value|too small"):
        network(images(1, 1, least - 1))
