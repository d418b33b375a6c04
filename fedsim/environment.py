"""On what a run is executed: versions and hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

PACKAGES = (
    "fedsim-medical",
    "flwr",
    "torch",
    "opacus",
    "dp-accounting",
    "monai",
    "numpy",
    "pillow",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
)


def describe(devices: Sequence[str]) -> dict[str, Any]:
    """Return versions and hardware as plain data.

    Args:
        devices: torch's names of those that compute, all of one type.
    """
    import torch

    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "plugins": _plugins(),
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cpus": os.cpu_count(),
        "device": ",".join(devices),
        "device_type": torch.device(devices[0]).type,
        "device_names": sorted({torch.cuda.get_device_name(d) for d in devices if "cuda" in d}),
        "num_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what changed between two starts that may change bits, in words."""
    plugins = {**before.get("plugins", {}), **now.get("plugins", {})}
    hardware = ("device_type", "device_names", "cpu_capability", "processor")
    flat_before, flat_now = (
        {**e, **e.get("packages", {}), **e.get("plugins", {})} for e in (before, now)
    )
    return [
        f"{key}: {flat_before.get(key)} -> {flat_now.get(key)}"
        for key in (*PACKAGES, *sorted(plugins), "python", *hardware)
        if flat_before.get(key) != flat_now.get(key)
    ]


def _plugins() -> dict[str, str]:
    """Return name and version of the installed packages that bring parts to fedsim."""
    groups = [group for group in entry_points().groups if group.startswith("fedsim.")]
    brought = [entry.dist for group in groups for entry in entry_points(group=group)]
    return {package.name: package.version for package in brought if package is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
