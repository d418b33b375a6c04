"""What is alike in several settings of a study stands on its page once, under a title that fits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fedsim.report.document.parts import Tabs, Text
from fedsim.report.study.subject import Study

SIZE, SPLIT = "population.supervision.0.bag_size", "population.partition"
SETTINGS = {
    f"{SIZE}={size}, {SPLIT}={split}": {SIZE: size, SPLIT: {}}
    for size in (1, 4)
    for split in ("iid", "dirichlet(alpha=0.3, min_examples=80)")
}


def shown(said: dict[str, str], varied: Any = SETTINGS) -> Any:
    """Return what a page shows of settings of which different things are said."""
    record: Any = SimpleNamespace(settings=tuple(varied), varied=varied)
    made = {setting: Text(text) for setting, text in said.items()}
    (block,) = Study(record, {}).by_setting(made)
    if isinstance(block, Text):
        return block.text
    assert isinstance(block, Tabs)
    return {title: part.text for title, part in block.tabs.items() if isinstance(part, Text)}


def test_each_setting_that_differs_is_a_tab() -> None:
    said = {setting: setting for setting in SETTINGS}
    assert shown(said) == {
        f"bag_size={size}, partition={split}": f"{SIZE}={size}, {SPLIT}={split}"
        for size in (1, 4)
        for split in ("iid", "dirichlet(alpha=0.3, min_examples=80)")
    }


def test_what_one_number_alone_changes_is_titled_by_it() -> None:
    by_split = {setting: setting.partition("partition=")[2] for setting in SETTINGS}
    assert shown(by_split) == {
        "partition=iid": "iid",
        "partition=dirichlet(alpha=0.3, min_examples=80)": "dirichlet(alpha=0.3, min_examples=80)",
    }


def test_what_is_alike_everywhere_needs_no_tab() -> None:
    assert shown(dict.fromkeys(SETTINGS, "same")) == "same"


def test_settings_that_share_nothing_of_their_own_are_all_named() -> None:
    crossed = dict(zip(SETTINGS, ("one", "other", "other", "one"), strict=True))
    found = shown(crossed)
    assert list(found.values()) == ["one", "other"]
    assert list(found) == [
        "bag_size=1, partition=iid; bag_size=4, partition=dirichlet(alpha=0.3, min_examples=80)",
        "bag_size=1, partition=dirichlet(alpha=0.3, min_examples=80); bag_size=4, partition=iid",
    ]


def test_a_title_does_not_speak_for_a_setting_without_anything_to_show() -> None:
    first, second, third, _ = SETTINGS
    assert list(shown({first: "a", second: "b", third: "a"})) == [
        "partition=iid",
        "bag_size=1, partition=dirichlet(alpha=0.3, min_examples=80)",
    ]
    assert shown({first: "a", second: "a", third: "b"}) == {
        "bag_size=1": "a",
        "bag_size=4, partition=iid": "b",
    }


def test_settings_that_vary_nothing_known_keep_their_names() -> None:
    assert shown({"a": "x", "b": "y"}, {"a": {}, "b": {}}) == {"a": "x", "b": "y"}
