"""fedsim: federated learning on medical images, from one scenario file.

    import fedsim

    scenario = fedsim.load_scenario("scenarios/quickstart.yaml", ["rounds=3"])
    record = fedsim.run(scenario)
    fedsim.write_report(record)

Names are loaded on use, so that describing a study stays instant.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsim.export_folder import export
    from fedsim.leave_one_out import run as leave_one_site_out
    from fedsim.prediction import predict
    from fedsim.records import RunRecord, read
    from fedsim.report import write as write_report
    from fedsim.scenario import Scenario, load_scenario
    from fedsim.simulate import resume, run
    from fedsim.trained import load_model

_EXPORTS = {
    "RunRecord": ("fedsim.records", "RunRecord"),
    "Scenario": ("fedsim.scenario", "Scenario"),
    "export": ("fedsim.export_folder", "export"),
    "leave_one_site_out": ("fedsim.leave_one_out", "run"),
    "load_model": ("fedsim.trained", "load_model"),
    "load_scenario": ("fedsim.scenario", "load_scenario"),
    "predict": ("fedsim.prediction", "predict"),
    "read": ("fedsim.records", "read"),
    "write_report": ("fedsim.report", "write"),
    "resume": ("fedsim.simulate", "resume"),
    "run": ("fedsim.simulate", "run"),
}

__all__ = [
    "RunRecord",
    "Scenario",
    "export",
    "leave_one_site_out",
    "load_model",
    "load_scenario",
    "predict",
    "read",
    "resume",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fedsim' has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *_EXPORTS]


def _check_neighbours() -> None:
    """Refuse to work with packages `clients` and `strategies` that are not ours."""
    home = Path(__file__).resolve().parent.parent
    for name in ("clients", "strategies"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is None or found.parent != home / name:
            raise ImportError(
                f"fedsim needs its own package {name!r} beside it in {home}, but Python finds "
                f"{found or 'none'}; rename or remove that one, or put {home} before it on sys.path"
            )


_check_neighbours()
