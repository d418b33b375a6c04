"""Starting weights: what fits is copied, what does not is told, and no file runs code."""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedsim.errors import DataError
from fedsim.models import MonaiNetwork, SmallCnn, weights
from fedsim.scenario import Scenario
from fedsim.simulate import run


def network(seed: int, num_classes: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return SmallCnn(widths=(8, 16)).build(1, num_classes, 16)


def equal(one: nn.Module, other: nn.Module, *, but: tuple[str, ...] = ()) -> bool:
    there = other.state_dict()
    return all(torch.equal(t, there[n]) for n, t in one.state_dict().items() if n not in but)


def as_safetensors(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_torch(path: Path, state: Any) -> Path:
    torch.save(state, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


@pytest.mark.parametrize(
    "save",
    [
        as_safetensors,
        as_torch,
        lambda path, state: as_torch(path, {"state_dict": state, "epoch": 3}),
        lambda path, state: as_torch(path, {"model": {f"module.{n}": t for n, t in state.items()}}),
        lambda path, state: as_safetensors(
            path, {f"module.model.{n}": t for n, t in state.items()}
        ),
    ],
)
def test_every_usual_file_is_read(tmp_path: Path, save: Callable[..., Path]) -> None:
    source, target = network(1), network(2)
    assert not equal(source, target)
    fitted = weights.fit(target, weights.load(save(tmp_path / "w", source.state_dict())))
    assert equal(source, target)
    assert (fitted.missing, fitted.unused, fitted.misfit) == ((), (), ())
    assert fitted.text() == f"{len(source.state_dict())} tensors loaded"


def test_a_head_of_other_classes_is_left_as_it_was(tmp_path: Path) -> None:
    source, target, before = network(1, num_classes=5), network(2), network(2)
    state = {**source.state_dict(), "extra.bias": torch.zeros(3)}
    head = [name for name in state if state[name].shape[:1] == (5,)]
    fitted = weights.fit(target, weights.load(as_torch(tmp_path / "w", state)))
    assert [name for name, _, _ in fitted.misfit] == head
    assert fitted.unused == ("extra.bias",)
    assert equal(target, source, but=tuple(head))
    assert all(torch.equal(target.state_dict()[n], before.state_dict()[n]) for n in head)
    assert f"2 of another shape, left random: {head[0]} (5, 16) for (2, 16)" in fitted.text()
    assert "1 of the file unused: extra.bias" in fitted.text()


def test_a_state_dict_may_have_names_that_checkpoints_use(tmp_path: Path) -> None:
    state = {"model": torch.ones(3), "state_dict": torch.zeros(2)}
    assert set(weights.load(as_torch(tmp_path / "w", state))) == set(state)


def test_a_prefix_that_the_network_has_too_stays() -> None:
    source, target = nn.ModuleDict({"model": network(1)}), nn.ModuleDict({"model": network(2)})
    wrapped = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
    for state in (source.state_dict(), wrapped):
        again = nn.ModuleDict({"model": network(2)})
        assert not equal(source, target)
        assert not weights.fit(again, state).missing
        assert equal(source, again)


def test_values_are_cast_and_must_stay_finite() -> None:
    source, target = network(1), network(2)
    state = {n: t.half().double() for n, t in source.state_dict().items()}
    weights.fit(target, state)
    assert {t.dtype for t in target.state_dict().values()} == {torch.float32}
    assert all(torch.equal(t, state[n].float()) for n, t in target.state_dict().items())
    first = next(iter(state))
    with pytest.raises(DataError, match=f"not finite: {first}"):
        weights.fit(target, {first: torch.full_like(state[first], 1e200)})


def test_what_the_file_lacks_is_told(tmp_path: Path) -> None:
    state = network(1).state_dict()
    first = next(iter(state))
    fitted = weights.fit(network(2), {first: state[first]})
    assert fitted.loaded == (first,)
    assert len(fitted.missing) == len(state) - 1
    assert "not in the file, left random" in fitted.text()


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, protocol=2))]
)
def test_no_code_of_the_file_is_run(tmp_path: Path, write: Callable[..., Any]) -> None:
    sprung = tmp_path / "sprung"
    write({"w": Trap(sprung)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"could run code|cannot be read as weights"):
        weights.load(tmp_path / "w.pt")
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a state dict"),
        ({}, "expected a state dict"),
        ({"a": 1.0}, "expected a state dict"),
        (torch.zeros(2), "expected a state dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        weights.load(as_torch(tmp_path / "w", content))


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.pt"):
        with pytest.raises(DataError, match="cannot be read as weights"):
            weights.load(tmp_path / name)
        (tmp_path / name).write_bytes(b"PK\x03\x04 no weights")
        with pytest.raises(DataError, match=str(tmp_path / name)):
            weights.load(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        weights.sha256(tmp_path / "nothing")


@pytest.mark.filterwarnings("ignore")  # what torch says of pickles that it does not like
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_however_a_file_is_damaged_it_is_an_error_of_the_data(tmp_path: Path, kind: str) -> None:
    state, rng = {"w": torch.ones(3)}, random.Random(0)
    buffer = io.BytesIO()
    if kind == "safetensors":
        buffer.write(as_safetensors(tmp_path / "w", state).read_bytes())
    else:
        torch.save(state, buffer, _use_new_zipfile_serialization=kind == "zip")
    whole, file = buffer.getvalue(), tmp_path / f"x{'.safetensors' * (kind == 'safetensors')}"
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        file.write_bytes(damaged[: rng.choice([len(whole), rng.randrange(len(whole))])])
        try:
            weights.load(file)
        except DataError:
            refused += 1
    assert refused > 20


def test_weights_that_do_not_fit_or_are_not_finite_are_refused() -> None:
    other = {f"layer{i}": torch.zeros(i) for i in range(7)}
    with pytest.raises(
        DataError, match=r"layer4 \(4,\) and 2 more; the network has 0.weight \(8, "
    ):
        weights.fit(network(1), other)
    with pytest.raises(DataError, match="do not fit the network at all"):
        weights.fit(network(1), {})
    target, before = network(1), network(1)
    state = dict(network(2).state_dict())
    state[list(state)[-1]].fill_(torch.nan)
    with pytest.raises(DataError, match=f"not finite: {list(state)[-1]}"):
        weights.fit(target, state)
    assert equal(target, before)


def test_a_run_starts_from_them_and_records_what_they_were(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    source = network(1)
    file = as_safetensors(tmp_path / "w", source.state_dict())
    model = {"kind": "small_cnn", "widths": [8, 16], "weights": str(file)}
    record = run(tiny(rounds=1, model=model), out=tmp_path, device="cpu", keep_every=1)
    from fedsim.records.checkpoint import load

    start = load(record.folder / "checkpoints" / "round-00000.safetensors")["model"]
    assert all(torch.equal(start[name], t) for name, t in source.state_dict().items())
    assert record.population["checksums"]["w.safetensors"] == f"sha256:{weights.sha256(file)}"
    assert "tensors loaded" in (record.folder / "log.txt").read_text()


def torchvision_resnet(blocks: tuple[int, ...], expansion: int) -> dict[str, torch.Tensor]:
    """Return a state dict with torchvision's names and shapes of a ResNet, 1000 classes.

    Args:
        blocks: in each of the four layers.
        expansion: 1 for basic blocks, 4 for bottlenecks.
    """
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, before: int, after: int, size: int) -> None:
        state[f"{name}.weight"] = torch.rand(after, before, size, size)

    def norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(width)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", 3, 64, 7)
    norm("bn1", 64)
    before = 64
    for number, (width, num) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
        after = width * expansion
        for name in (f"layer{number}.{block}" for block in range(num)):
            layers = [(before, width, 3), (width, width, 3)]
            if expansion > 1:
                layers = [(before, width, 1), (width, width, 3), (width, after, 1)]
            for place, layer in enumerate(layers, start=1):
                convolution(f"{name}.conv{place}", *layer)
                norm(f"{name}.bn{place}", layer[1])
            if before != after:
                convolution(f"{name}.downsample.0", before, after, 1)
                norm(f"{name}.downsample.1", after)
            before = after
    state["fc.weight"], state["fc.bias"] = torch.rand(1000, before), torch.rand(1000)
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blocks", "expansion", "num_parameters"),
    [("ResNet18", (2, 2, 2, 2), 1, 11_689_512), ("ResNet50", (3, 4, 6, 3), 4, 25_557_032)],
)
def test_torchvision_weights_fit_all_but_the_head(
    name: Any, blocks: tuple[int, ...], expansion: int, num_parameters: int
) -> None:
    state = torchvision_resnet(blocks, expansion)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(t.numel() for n, t in state.items() if not n.endswith(buffers)) == num_parameters
    resnet = MonaiNetwork(name=name).build(3, 5, 64)
    fitted = weights.fit(resnet, state)
    assert (fitted.missing, fitted.unused) == ((), ())
    assert [name for name, _, _ in fitted.misfit] == ["fc.weight", "fc.bias"]
    assert len(fitted.loaded) == len(state) - 2
    assert all(torch.equal(resnet.state_dict()[n], state[n]) for n in fitted.loaded)
    assert len(fitted.text().splitlines()) == 2
