"""From what was seen in data to the text of a scenario that runs on them."""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fedsim.data.source import SPLITS, Source
from fedsim.errors import DataError, FedsimError
from fedsim.plugins import kind_of
from fedsim.scenario import open_population
from fedsim.scenario.families import FAMILIES
from fedsim.scenario.load import Draft
from fedsim.scenario.yaml_tree import parse
from fedsim.starter.sighting import Sighting
from fedsim.starter.template import TEMPLATE

HEALTHY = re.compile(
    r"(normal|healthy|benign|negative|controls?|none|absent|no|not|non|without)\b", re.I
)
"""How the name of a class begins that is no disease."""
METRICS = {
    "binary": "auroc average_precision balanced_accuracy sensitivity specificity ece loss",
    "multiclass": "auroc balanced_accuracy accuracy ece loss",
    "ordinal": "auroc quadratic_kappa balanced_accuracy ece loss",
}
"""Task -> by what its models are judged."""
SIMULATED_SITES = ((500, 5), (100, 3), (0, 2))
"""Images from which on so many simulated sites are asked for."""
BATCH_SIZES = (4, 8, 16, 32)
LARGEST_DELTA = 1e-5
WIDTH = 100


def scenario_for(seen: Sighting, file: Path) -> str:
    """Return the text of a scenario that runs on what was seen.

    Args:
        seen: in the data.
        file: where the text is to stand; paths in it are relative to its folder.

    Raises:
        DataError: if no scenario fits, as where there are too few images, with the reason.
    """
    choices = _choices(seen, file)
    text = _fill(choices)
    try:
        draft = Draft(parse(text, f"{file.name} (not written)"), {}, file.parent.absolute())
        scenario = draft.scenario()
        with draft.pointing():
            sizes = open_population(scenario).sizes()
    except FedsimError as error:
        raise DataError(f"no scenario fits these data yet: {error}") from error
    return _fill({**choices, **_sized(sizes)})


def _choices(seen: Sighting, file: Path) -> dict[str, Any]:
    """Return what the template is filled with, by name."""
    facts, num = seen.facts, sum(seen.counts.values())
    binary = len(facts.class_names) == 2
    task = "binary" if binary else "ordinal" if facts.ordinal else "multiclass"
    title = re.sub(r"[^A-Za-z0-9_.-]+", "_", file.stem).strip("._-")[:60] or "study"
    return {
        "seen": list(seen.lines()),
        "file": file.name if file.name.isprintable() else "FILE",
        "name": title,
        "description": f"Federated averaging on {seen.title}",
        "source": _keys(seen.source, file),
        "kind": seen.source.kind,
        "task": task,
        "positive": _positive(facts.class_names) if binary else None,
        "classes": facts.class_names,
        "metrics": METRICS[task].split(),
        "site_column": seen.site_column,
        "num_sites": next(sites for least, sites in SIMULATED_SITES if num >= least),
        "held_out": _held_out(facts.num_examples),
        "first_site": next(iter(seen.sites), "site-00"),
        **_sized([num]),
    }


def _sized(sizes: Sequence[int]) -> dict[str, Any]:
    """Return what depends on how many training images the sites have.

    A batch is at most a quarter of the smallest site, delta at most a tenth of 1 / the largest.
    """
    fitting = [size for size in BATCH_SIZES if 4 * size <= min(sizes)]
    return {
        "batch_size": max(fitting, default=BATCH_SIZES[0]),
        "delta": min(LARGEST_DELTA, 10.0 ** -math.ceil(math.log10(10 * max(sizes)))),
    }


def _keys(source: Source, file: Path) -> dict[str, Any]:
    """Return what the scenario says of the source, with a path relative to its file."""
    given = source.model_dump(mode="json", exclude_defaults=True, exclude={"licence", "citation"})
    keys: dict[str, Any] = {"kind": source.kind}
    for name, value in given.items():
        keys[name] = os.path.relpath(value, file.parent.absolute()) if name == "path" else value
    return keys


def _positive(classes: tuple[str, ...]) -> int:
    """Return the class that is the disease, as far as names tell."""
    healthy = [bool(HEALTHY.match(name)) for name in classes]
    return 0 if healthy == [False, True] else 1


def _held_out(num_examples: Mapping[str, int]) -> Any:
    """Return the publisher's splits as far as there are any, shares for the others."""
    if set(SPLITS) <= set(num_examples):
        return "official"
    return {"validation": 0.15, "test": "official" if "test" in num_examples else 0.2}


def _fill(choices: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"yaml": _yaml, "section": _section, "comment": _comment}
    return environment.from_string(TEMPLATE).render(choices, kinds=_kinds)


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").strip()


def _section(keys: Mapping[str, Any], indent: int) -> str:
    """Return keys as YAML, one a line."""
    return textwrap.indent("\n".join(f"{k}: {_yaml(v)}" for k, v in keys.items()), " " * indent)


def _comment(text: str, indent: int = 0) -> str:
    """Return a text as lines of comment; what could end a line is written as YAML writes it."""
    plain = text if text.isprintable() else _yaml(text)
    mark = " " * indent + "# "
    return textwrap.fill(plain, WIDTH, initial_indent=mark, subsequent_indent=mark)


def _kinds(family: str, indent: int = 0) -> str:
    """Return a comment that names what there is to choose from."""
    return _comment(f"Kinds: {', '.join(map(kind_of, FAMILIES[family]))}.", indent)
