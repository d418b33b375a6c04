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
    from fedsim.records.study import StudyRecord, read_study
    from fedsim.report import write as write_report
    from fedsim.scenario import Scenario, load_scenario
    from fedsim.simulate import resume, run
    from fedsim.study.load import load_study
    from fedsim.study.runner import run as run_study
    from fedsim.trained import load_model

_EXPORTS = {
    "RunRecord": ("fedsim.records", "RunRecord"),
    "Scenario": ("fedsim.scenario", "Scenario"),
    "StudyRecord": ("fedsim.records.study", "StudyRecord"),
    "export": ("fedsim.export_folder", "export"),
    "leave_one_site_out": ("fedsim.leave_one_out", "run"),
    "load_model": ("fedsim.trained", "load_model"),
    "load_scenario": ("fedsim.scenario", "load_scenario"),
    "load_study": ("fedsim.study.load", "load_study"),
    "predict": ("fedsim.prediction", "predict"),
    "read": ("fedsim.records", "read"),
    "read_study": ("fedsim.records.study", "read_study"),
    "write_report": ("fedsim.report", "write"),
    "resume": ("fedsim.simulate", "resume"),
    "run": ("fedsim.simulate", "run"),
    "run_study": ("fedsim.study.runner", "run"),
}

__all__ = [
    "RunRecord",
    "Scenario",
    "StudyRecord",
    "export",
    "leave_one_site_out",
    "load_model",
    "load_scenario",
    "load_study",
    "predict",
    "read",
    "read_study",
    "resume",
    "run",
    "run_study",
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
