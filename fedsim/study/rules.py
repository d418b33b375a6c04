"""What must hold between the sections of a study, and in each of its scenarios."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from clients.metrics import METRICS
from fedsim.data.resampled import Resampled
from fedsim.scenario import Problem, Scenario
from fedsim.scenario.messages import nearest, show
from fedsim.scenario.yaml_tree import Path
from fedsim.study.design import FIRST_PILOT_SEED, Design
from fedsim.study.settings import Setting
from fedsim.study.study_file import Study
from fedsim.study.trials import without_value

NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}"
OWN = {
    "seed": "the study's own `seeds` decide",
    "name": "the study names its runs",
    "description": "the study describes its runs",
    "version": "it is that of the base",
}
"""Keys of a scenario that a study does not set, and why."""
LEARNT_FROM = {"supervision", "outages"}
"""Keys of a population that change who learns from what, and no image that judges."""
MOST_CELLS = 20_000


def broken(design: Design) -> list[Problem]:
    """Return the rules that a study breaks; scenarios are looked at once all else holds."""
    study = design.study
    return [
        *_methods(study),
        *_keys(study),
        *_tuning(study),
        *_seeds(study),
        *_repeated_values(study),
        *_size(study),
    ] or [*_scenarios(design)]


def _methods(study: Study) -> Iterator[Problem]:
    names = list(study.methods)
    if len(names) < 2:
        yield Problem(("methods",), "a comparison needs at least two methods")
    for name in names:
        if not re.fullmatch(NAME, name):
            yield Problem(
                ("methods", name),
                "call it by at most 40 letters, digits, `_`, `.`, `+` and `-`, the first no sign",
            )
    reference = study.primary.reference
    if reference not in names:
        yield Problem(
            ("primary", "reference"),
            f"{reference!r} is no method{nearest(reference, names)} (one of {', '.join(names)})",
        )
    others = [name for name in names if name != reference]
    for index, name in enumerate(study.primary.confirmatory or ()):
        if name not in others:
            yield Problem(
                ("primary", "confirmatory", index),
                f"{name!r} is no method that is compared to {reference}{nearest(name, others)} "
                f"(one of {', '.join(others)})",
            )
    metric = study.primary.metric
    if metric not in METRICS:
        yield Problem(
            ("primary", "metric"),
            f"{metric!r} is no metric{nearest(metric, METRICS)} (one of {', '.join(METRICS)})",
        )


def _keys(study: Study) -> Iterator[Problem]:
    """No key may be the study's own, and what is varied must reach every method."""
    places: list[Path] = [("set", key) for key in study.set]
    places += [("vary", key) for key in study.vary]
    for name, method in study.methods.items():
        places += [("methods", name, "set", key) for key in method.set]
        places += [("methods", name, "tune", key) for key in method.tune]
    for place in places:
        key = str(place[-1])
        if not all(key.split(".")):
            yield Problem(place, f"expected key.path of the scenario, got {show(key)}")
        elif key in OWN:
            yield Problem(place, f"cannot be set here: {OWN[key]}")
        elif place[0] != "set":
            yield from _undoing(study, place)
    for name, method in study.methods.items():
        for index, key in enumerate(method.without):
            if key not in study.vary:
                yield Problem(
                    ("methods", name, "without", index),
                    f"{key} is not varied{nearest(key, study.vary)}: leave it out",
                )


def _undoing(study: Study, place: Path) -> Iterator[Problem]:
    """A key of a method or of `vary` may not undo what (else) is varied."""
    key, of_method = str(place[-1]), place[0] == "methods"
    without = study.methods[str(place[1])].without if of_method else []
    for varied in study.vary:
        if place == ("vary", varied) or varied in without:
            continue
        inside = f"{key}.".startswith(f"{varied}.")
        around = f"{varied}.".startswith(f"{key}.")
        if inside or (around and place[-2] != "set"):
            way_out = f", or name {varied} under `without` if it means nothing to {place[1]}"
            yield Problem(
                place,
                f"would undo `vary`, which has {varied}: leave one of them out"
                + way_out * of_method,
            )


def _tuning(study: Study) -> Iterator[Problem]:
    tuned = [name for name, method in study.methods.items() if method.tune]
    if study.tune is None and tuned:
        yield Problem(
            ("methods", tuned[0], "tune"),
            "the study has no trials: give it `tune`, such as tune: {trials: 8, seeds: [1000]}",
        )
    if study.tune is not None and not tuned:
        yield Problem(
            ("tune",), "no method has anything to tune: give them `tune`, or leave this out"
        )


def _seeds(study: Study) -> Iterator[Problem]:
    seeds = study.all_seeds
    tuning = study.tune.seeds if study.tune else []
    for path, listed in ((("seeds",), seeds), (("tune", "seeds"), tuning)):
        if twice := sorted(seed for seed, num in Counter(listed).items() if num > 1):
            yield Problem(path, f"{', '.join(map(str, twice))} is listed twice")
        if taken := [seed for seed in listed if seed >= FIRST_PILOT_SEED]:
            yield Problem(path, f"{taken[0]}: seeds from {FIRST_PILOT_SEED} on are for pilots")
    if both := sorted(set(seeds) & set(tuning)):
        yield Problem(
            ("tune", "seeds"),
            f"{', '.join(map(str, both))} is a seed of the study too: what was tuned on a seed "
            "must not be compared on it",
        )


def _size(study: Study) -> Iterator[Problem]:
    num_trials = study.tune.trials * len(study.tune.seeds) if study.tune else 0
    num_settings = math.prod(map(len, study.vary.values()))
    num = len(study.methods) * num_settings * (len(study.all_seeds) + num_trials)
    if num > MOST_CELLS:
        yield Problem(
            ("seeds",),
            f"the study asks for {num:,} runs, at most {MOST_CELLS:,} are planned: fewer seeds, "
            "settings or trials",
        )


def _repeated_values(study: Study) -> Iterator[Problem]:
    lists: list[tuple[Path, Any]] = [(("vary", key), values) for key, values in study.vary.items()]
    for name, method in study.methods.items():
        lists += [(("methods", name, "tune", key), space) for key, space in method.tune.items()]
    for path, values in lists:
        if isinstance(values, list):
            seen: set[str] = set()
            for index, value in enumerate(values):
                text = json.dumps(value, sort_keys=True)
                if text in seen:
                    yield Problem((*path, index), f"{show(value)} is listed twice")
                seen.add(text)


def _scenarios(design: Design) -> Iterator[Problem]:
    """Every scenario must be valid, and those of a setting must be comparable."""
    for setting in design.settings:
        found: dict[str, Scenario] = {}
        for method in design.study.methods:
            scenario, problems = design.compose(method, setting, {})
            yield from problems
            if scenario is None:
                continue
            found[method] = scenario
            spaces = design.study.methods[method].tune
            if empty := list(without_value(spaces, scenario.resolved())):
                for key in empty:
                    yield Problem(
                        ("methods", method, "tune", key),
                        "there is no whole number in between, and this key takes nothing else",
                    )
                continue
            for values in design.trials(method, setting)[1:]:
                yield from design.compose(method, setting, values)[1]
        yield from _comparable(design, setting, found)


def _comparable(
    design: Design, setting: Setting, found: Mapping[str, Scenario]
) -> Iterator[Problem]:
    """All methods of a setting must be judged alike, on the same images at the same sites."""
    primary = design.study.primary
    reference = found.get(primary.reference)
    if reference is None:
        return
    metrics = reference.evaluation.metrics
    if primary.metric not in metrics:
        yield Problem(
            ("primary", "metric"),
            f"no run computes {primary.metric!r}{nearest(primary.metric, metrics)} (one of "
            f"{', '.join(metrics)}): add it to evaluation.metrics of the base, or under `set`",
        )
    if not primary.pooled and isinstance(reference.population.partition, Resampled):
        yield Problem(
            ("primary", "pooled"),
            "sites of the partition resampled have no test images of their own, so there is no "
            "mean over sites: set it to true",
        )
    decides = design.analysis["tuned_by"]
    if decides != primary.metric and decides not in metrics:
        yield Problem(
            ("tune", "metric"),
            f"no run computes {decides!r}{nearest(decides, metrics)} (one of "
            f"{', '.join(metrics)}): add it to evaluation.metrics of the base, or under `set`",
        )
    for method, scenario in found.items():
        for key in _judged_otherwise(reference, scenario):
            yield Problem(
                ("methods", method),
                f"differs from {primary.reference} in {key}, so their values cannot be compared: "
                "set it for all methods under `set`, or vary it",
            )
        twin = next((o for o in found if o != method and found[o].digest == scenario.digest), None)
        if twin is not None and list(found).index(twin) < list(found).index(method):
            spaces = design.study.methods
            if spaces[twin].tune == spaces[method].tune:
                yield Problem(
                    ("methods", method), f"does the same as {twin} ({setting.name}): change one"
                )


def _judged_otherwise(reference: Scenario, other: Scenario) -> Iterator[str]:
    for key in ("source", "task", "target", "label_map", "class_names", "positive_class"):
        if getattr(reference.data, key) != getattr(other.data, key):
            yield f"data.{key}"
    for key in set(type(reference.population).model_fields) - LEARNT_FROM:
        if getattr(reference.population, key) != getattr(other.population, key):
            yield f"population.{key}"
    for key in ("metrics", "select_by", "min_per_class", "external"):
        if getattr(reference.evaluation, key) != getattr(other.evaluation, key):
            yield f"evaluation.{key}"
