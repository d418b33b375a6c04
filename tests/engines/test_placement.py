"""Workers go where memory is, and are refused where none is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsim.engines import placement
from fedsim.engines.placement import (
    CUDA_CONTEXT_BYTES,
    Room,
    adding_device,
    choose_devices,
    most,
    needed_bytes,
    place,
    rooms,
)
from fedsim.errors import InputError
from fedsim.flower.workplace import Workplace
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import run

GB = 10**9


@pytest.mark.parametrize(
    ("free", "num_workers", "expected"),
    [
        ([80, 80], 4, [2, 2]),
        ([80, 80], 3, [2, 1]),
        ([80, 24], 5, [5, 0]),
        ([80, 24], 10, [8, 2]),
        ([10, 30, 20], 6, [1, 3, 2]),
    ],
)
def test_every_next_worker_goes_where_most_is_free(
    free: list[int], num_workers: int, expected: list[int]
) -> None:
    gpus = [Room(f"cuda:{n}", gb * GB) for n, gb in enumerate(free)]
    counts = Counter(place(num_workers, gpus, 10 * GB))
    assert [counts[gpu.device] for gpu in gpus] == expected


def test_no_device_is_filled_beyond_its_memory() -> None:
    gpus = [Room("cuda:0", 25 * GB), Room("cuda:1", 9 * GB)]
    assert place(2, gpus, 10 * GB) == ["cuda:0", "cuda:0"]
    with pytest.raises(InputError, match=r"3 workers do not fit: each needs about 10\.0 GB"):
        place(3, gpus, 10 * GB)
    with pytest.raises(InputError, match="--workers 2"):
        place(3, gpus, 10 * GB)
    with pytest.raises(InputError, match="use another device"):
        place(1, gpus, 30 * GB)


def test_devices_without_memory_of_their_own_take_turns() -> None:
    assert place(3, [Room("cpu", None)], 10 * GB) == ["cpu"] * 3
    assert place(3, [Room("a", None), Room("b", None)], GB) == ["a", "b", "a"]


def test_there_are_as_many_workers_as_processors_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda _: range(16), raising=False)
    gpus = [Room("cuda:0", 45 * GB), Room("cuda:1", 29 * GB)]
    assert most([Room("cpu", None)], 10 * GB) == 16
    assert most(gpus, 10 * GB) == 6
    assert most(gpus, GB) == 16
    assert most(gpus, 100 * GB) == 1, "refused where it is placed, with the numbers"


def test_auto_is_every_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_devices("cpu") == (torch.device("cpu"),)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_devices("auto") == (torch.device("cpu"),)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(placement, "_device", torch.device)
    assert [str(device) for device in choose_devices("auto")] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [str(device) for device in choose_devices("cuda:2, cuda:0")] == ["cuda:2", "cuda:0"]


@pytest.mark.parametrize("names", ["cpu,cpu", "cuda:0,cpu", "cuda:1,cuda:1"])
def test_devices_are_different_ones_of_one_type(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_device", torch.device)
    with pytest.raises(InputError, match="different devices of one type"):
        choose_devices(names)


@pytest.mark.parametrize("names", ["warp", "meta", "cuda:99", "", "cpu,"])
def test_what_is_no_device_is_told(names: str) -> None:
    with pytest.raises(InputError, match=r"device .* cannot be used here"):
        choose_devices(names)


def test_free_memory_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {0: 5 * GB, 1: 7 * GB}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (free[d.index], 80 * GB))
    found = rooms([torch.device("cuda:0"), torch.device("cuda:1")])
    assert found == [Room("cuda:0", 5 * GB), Room("cuda:1", 7 * GB)]
    assert rooms([torch.device("cpu")]) == [Room("cpu", None)]


def test_updates_are_added_where_double_precision_is() -> None:
    assert adding_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert adding_device(torch.device("mps")) == torch.device("cpu")


@pytest.mark.slow
def test_workers_get_their_devices(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    asked: list[int] = []

    def spread(num_workers: int, *_: object) -> list[str]:
        asked.append(num_workers)
        return ["cpu:0", "cpu"][:num_workers]

    monkeypatch.setattr("fedsim.execution.place", spread)
    assert run(tiny(rounds=1), out=tmp_path, device="cpu", workers=2).finished
    assert asked == [2]


def needed(scenario: Scenario) -> int:
    return needed_bytes(Workplace(scenario, open_population(scenario), torch.device("cpu")))


def with_batches(tiny: Callable[..., Scenario], size: int, **population: Any) -> Scenario:
    return tiny(
        client={"epochs": 1, "batch_size": size},
        model={"kind": "mlp", "widths": [8, 4]},
        population={"num_sites": 3, **population},
    )


def test_a_worker_needs_room_for_what_its_largest_batch_keeps(
    tiny: Callable[..., Scenario],
) -> None:
    """By hand: 16 x 16 pixels, layers of 8, 4 and 2; SGD without momentum has no state."""
    scenario = with_batches(tiny, 10)
    population = open_population(scenario)
    parameters = 4 * (256 * 8 + 8 + 8 * 4 + 4 + 4 * 2 + 2)
    images = 4 * 256 * population.num_images()
    rest = needed(scenario) - CUDA_CONTEXT_BYTES - 4 * parameters - images
    kept = 10 * 4 * (256 + 8 + 4 + 2)  # inputs of the layers and of the loss
    assert kept <= rest <= 3 * kept


def test_room_grows_with_the_batch_up_to_what_sites_hold(tiny: Callable[..., Scenario]) -> None:
    two, four, many, all_there_is = (
        needed(with_batches(tiny, size)) for size in (2, 4, 10**6, 10**9)
    )
    assert 2 < four - two < many - two
    assert many == all_there_is


def test_a_device_with_larger_batches_needs_more_room(tiny: Callable[..., Scenario]) -> None:
    profile = {"profile": "h100-sxm", "share": 1.0}
    alike = with_batches(tiny, 4, devices=[profile])
    larger = with_batches(tiny, 4, devices=[{**profile, "batch_size": 16}])
    assert needed(larger) > needed(alike)


def test_workers_that_fit_but_for_their_activations_are_refused(
    tiny: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = needed(with_batches(tiny, 1))
    gpu = [Room("cuda:0", 2 * small)]
    assert place(2, gpu, small) == ["cuda:0"] * 2
    monkeypatch.setattr("fedsim.execution.rooms", lambda _: gpu)
    with pytest.raises(InputError, match=r"2 workers do not fit: .* use --workers 1"):
        run(with_batches(tiny, 30), out=tmp_path, device="cpu", workers=2)
