"""Every reference is BibTeX that can be read, and each work is named once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedsim import citations
from fedsim.models.monai_network import PAPERS
from fedsim.scenario import Scenario
from fedsim.scenario.families import FAMILIES

KEY = re.compile(r"@(\w+)\{([\w:-]+),\n")


def references() -> Iterator[str]:
    for parts in FAMILIES.values():
        for part in parts:
            if found := getattr(part, "reference", ""):
                yield found
    yield from PAPERS.values()
    yield from citations.SOFTWARE


@pytest.mark.parametrize("entry", sorted(set(references())), ids=lambda entry: KEY.match(entry)[2])
def test_an_entry_is_whole(entry: str) -> None:
    assert KEY.match(entry)
    assert entry.count("{") == entry.count("}")
    fields = dict(re.findall(r"^  (\w+) = \{", entry, re.MULTILINE) and _fields(entry))
    assert {"title", "author", "year"} <= set(fields)
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])


def _fields(entry: str) -> list[tuple[str, str]]:
    return re.findall(r"^  (\w+) = \{(.*?)\},?$", entry, re.MULTILINE | re.DOTALL)


def test_one_key_means_one_work() -> None:
    by_key: dict[str, set[str]] = {}
    for entry in references():
        by_key.setdefault(KEY.match(entry)[2], set()).add(dict(_fields(entry))["year"])  # type: ignore[index]
    assert all(len(years) == 1 for years in by_key.values())


def cited(scenario: Scenario) -> list[str]:
    return [KEY.match(entry)[2] for entry in citations.of_scenarios([scenario])]  # type: ignore[index]


def test_what_is_inside_of_a_part_is_cited_too(tiny: Callable[..., Scenario]) -> None:
    scenario = tiny(
        model={"kind": "monai", "name": "ResNet18"},
        data={
            "source": {"kind": "synthetic", "anatomy": "chest", "image_size": 64},
            "task": "binary",
        },
    )
    found = cited(scenario)
    assert found[0] == "he2016deep"
    assert found[-1] == "cardoso2022monai"
    assert "cardoso2022monai" not in cited(tiny())


def test_accountants_are_cited_where_something_is_private(tiny: Callable[..., Scenario]) -> None:
    mechanism = {"kind": "example_level", "noise_multiplier": 1.0}
    private = tiny(privacy={"mechanism": mechanism, "delta": 1e-4})
    keys = ("{yousefpour2021opacus,", "{doroshenko2022connect,")
    for scenario, cited in ((private, True), (tiny(), False)):
        text = "".join(citations.of_scenarios([scenario]))
        assert [key in text for key in keys] == [cited, cited]


def test_images_are_cited(tiny: Callable[..., Scenario]) -> None:
    source = {"kind": "medmnist", "name": "pneumoniamnist"}
    assert "medmnistv2" in cited(tiny(data={"source": source, "task": "binary"}))


def test_a_run_whose_parts_are_gone_still_cites_its_images(tiny: Callable[..., Scenario]) -> None:
    record: Any = type("Record", (), {})()
    record.scenario = {**tiny().resolved(), "strategy": {"kind": "of_a_package_that_is_gone"}}
    record.population = {"citation": "@misc{images,\n}"}
    found = citations.of_runs([record, record])
    keys = [entry.partition(",")[0] for entry in found]
    assert keys[:2] == ["@misc{images", "@misc{beutel2020flower"]
