"""What a run notes of versions and hardware, and what it calls a change."""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import requires, version
from typing import Any

import pytest
import torch

from fedsim import environment
from fedsim.environment import PACKAGES, describe, differences


def test_the_description_is_plain_data_and_true() -> None:
    found = describe(["cpu"])
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == version("torch")
    assert found["num_cpus"] >= 1
    assert found["device"] == "cpu"
    assert (found["device_type"], found["device_names"]) == ("cpu", [])
    assert found["num_threads"] == torch.get_num_threads()
    assert found["processor"]
    assert describe(["cpu"]) == found


def test_every_package_noted_is_installed_or_none() -> None:
    assert set(describe(["cpu"])["packages"]) == set(PACKAGES)
    assert environment._version("no-such-package-anywhere") is None
    assert None not in describe(["cpu"])["packages"].values()


def test_required_packages_that_compute_are_noted() -> None:
    lines = [line for line in requires("fedsim-medical") or () if "extra ==" not in line]
    names = {re.split(r"[^\w.-]", line)[0] for line in lines}
    assert "torch" in names
    others = {"click", "jinja2", "matplotlib", "pooch", "pyyaml", "requests", "rich", "typer"}
    assert names - others <= set(PACKAGES)


def test_the_name_of_the_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device}")
    found = describe(["cuda:1", "cuda:0"])
    assert (found["device"], found["device_type"]) == ("cuda:1,cuda:0", "cuda")
    assert found["device_names"] == ["name of cuda:0", "name of cuda:1"]


def test_without_cpuinfo_there_is_still_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", absent)
    assert environment._processor()


def test_no_change_is_no_difference() -> None:
    now = describe(["cpu"])
    assert differences(now, now) == []
    assert differences(now, {**now, "num_cpus": 99, "platform": "x", "num_threads": 7}) == []


@pytest.mark.parametrize(
    "key", ["python", "processor", "device_type", "device_names", "cpu_capability", *PACKAGES]
)
def test_what_may_change_bits_is_named_with_both_values(key: str) -> None:
    before = describe(["cpu"])
    now = {**before, "packages": dict(before["packages"])}
    (now["packages"] if key in PACKAGES else now)[key] = "other"
    was = {**before, **before["packages"]}[key]
    assert differences(before, now) == [f"{key}: {was} -> other"]


def test_a_description_of_an_older_version_is_compared_too() -> None:
    now = describe(["cpu"])
    older = {"python": now["python"], "device": "cpu"}
    assert f"torch: None -> {version('torch')}" in differences(older, now)
