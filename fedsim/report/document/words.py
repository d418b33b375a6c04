"""A scenario in words: what was done, as far as a reader asks first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.metrics import METRICS


def in_words(scenario: Mapping[str, Any], population: Mapping[str, Any]) -> dict[str, str]:
    """Return what was done, by aspect.

    Args:
        scenario: resolved, plain data.
        population: as recorded.
    """
    sites, client = scenario["population"], scenario["client"]
    said = {
        "Images": f"{part(scenario['data']['source'])}; {_images(population)}",
        "Task": _task(scenario["data"], population),
        "Sites": f"{_sites(population)}; {part(sites['partition'])}",
        "Scanners": part(sites["appearance"]),
        "Label noise": "; ".join(map(part, sites["label_noise"])),
        "Adversaries": "; ".join(map(part, sites["adversaries"])),
        "Network": part(scenario["model"]),
        "A site's work in a round": _work(client),
        "Local objective": part(client["objective"]),
        "Privacy": _privacy(scenario["privacy"]),
        "Cohort": part(scenario["cohort"]),
        "End of a round": part(scenario["round_policy"]),
        "Aggregation": part(scenario["strategy"]),
        "Server optimiser": part(scenario["server_optimizer"]),
        "Rounds": f"{scenario['rounds']}",
        "Evaluation": f"every {_ordinal(scenario['evaluation']['every'])}round; the best round "
        f"is chosen by {METRICS[scenario['evaluation']['select_by']].title} on validation images",
        "Yardsticks": ", ".join(scenario["baselines"]),
        "Seed": f"{scenario['seed']}",
    }
    return {aspect: text for aspect, text in said.items() if text}


def _privacy(section: Mapping[str, Any] | None) -> str:
    if section is None:
        return ""
    said = f"{part(section['mechanism'])}, delta {section['delta']:g}"
    budget = section["budget"]
    if budget is None:
        return said
    return f"{said}, at most epsilon {budget['epsilon']:g} ({budget['on_budget']})"


def part(value: Mapping[str, Any] | None) -> str:
    """Return a part of a scenario in a line: its kind and what it says, as YAML would.

    >>> part({"kind": "dirichlet", "alpha": 0.5, "min_examples": 8}), part(None)
    ('dirichlet (alpha 0.5, min_examples 8)', '')
    """
    if value is None:
        return ""
    said = ", ".join(
        f"{key} {_plain(item)}"
        for key, item in value.items()
        if key != "kind" and item not in (None, False, [], {})
    )
    return f"{value['kind']} ({said})" if said else str(value["kind"])


def without_places(value: Any) -> Any:
    """Return plain data with the names of files in the place of absolute paths.

    Where a file lay says nothing to a reader, but something of whose computer it was.
    """
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items() if item is not None)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{without_places(value)}"


def _task(data: Mapping[str, Any], population: Mapping[str, Any]) -> str:
    """Return what is learned."""
    if data["task"] != "regression":
        return f"{data['task']}: {', '.join(population['class_names'])}"
    low, high = data["target_range"] or (0, 1)
    unit = f" ({population['target_unit']})" if population["target_unit"] else ""
    return f"regression: {data['target']}{unit}, learned as 0 at {low:g} and 1 at {high:g}"


def _images(population: Mapping[str, Any]) -> str:
    found = population["images"]
    colour = {1: "grey", 3: "colour"}.get(found["num_channels"], "")
    size = found["image_size"]
    return f"{size} x {size} pixels, {colour}" + (", synthetic" if found["synthetic"] else "")


def _sites(population: Mapping[str, Any]) -> str:
    if drawn := population["drawn"]:
        return f"{drawn['num_sites']:,}, which draw their images from a pool"
    sizes = [sum(site["train"]) for site in population["sites"]]
    if len(sizes) == 1:
        return f"1 with {sizes[0]:,} training images"
    return f"{len(sizes)} with {min(sizes):,} to {max(sizes):,} training images"


def _work(client: Mapping[str, Any]) -> str:
    amount = next(
        (f"{client[key]} {key}" for key in ("epochs", "steps") if client[key]), "as its device says"
    )
    return (
        f"{amount} in batches of {client['batch_size']}; {part(client['optimizer'])}, "
        f"{part(client['schedule'])} learning rate"
    )


def _ordinal(every: int) -> str:
    return "" if every == 1 else f"{every}th "
