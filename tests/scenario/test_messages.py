"""What an author is told about each kind of mistake, and that all mistakes are told at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

JARGON = re.compile(
    r"pydantic|https?:|tuple\[|dict\[|list\[|_type\b|_error\b|literal|discriminator|\btag\b|"
    r"Input should|function-|NoneType|Traceback|\bstr\b|\bint\b|\bfloat\b|\bbool\b"
)

MISTAKES = [
    pytest.param(*mistake.values(), id=f"{mistake['old']} -> {mistake['new']}")
    for mistake in yaml.safe_load((Path(__file__).parent / "mistakes.yaml").read_text("utf-8"))
]


@pytest.mark.parametrize(("old", "new", "where", "what"), MISTAKES)
def test_a_mistake_is_told_with_place_key_and_expectation(
    author: Any, old: str, new: str, where: str, what: str
) -> None:
    message = author.complaint(old, new)
    told = [p for p in re.split(r"\n(?=FILE)", message) if p.startswith(f"FILE:{where}\n  ")]
    assert len(told) == 1, message
    assert what in told[0]
    assert not JARGON.search(re.sub(r"'.*?'", "", message)), message


@pytest.mark.parametrize(("old", "new", "where", "what"), MISTAKES)
def test_a_mistake_is_told_once(author: Any, old: str, new: str, where: str, what: str) -> None:
    message = author.complaint(old, new)
    keys = re.findall(r"^FILE:\d+:\d+: (\S+)", message, re.MULTILINE)
    assert len(keys) == len(set(keys)) <= 2, message


def test_a_number_with_thousands_of_digits_is_refused(author: Any) -> None:
    for digits in ("9" * 9999, "-" + "9" * 9999, "0x" + "f" * 9999):
        said = author.complaint("rounds: 4", f"rounds: {digits}")
        assert said.endswith("rounds\n  expected a whole number of at most 18 digits")


def test_all_mistakes_are_told_in_the_order_of_the_file(author: Any) -> None:
    text = (
        "version: 1\nname: a b\nseed: true\nrounds: .nan\ndata: {source: {kind: x}, tasc: binary}\n"
        "population: []\nclient: {batch_size: 0}\n"
    )
    told = re.findall(r"^FILE:(\d+):\d+: (\S+)", author.complaint_about(text), re.MULTILINE)
    assert [key for _, key in told] == [
        "name",
        "seed",
        "rounds",
        "data.task",
        "data.source.kind",
        "data.tasc",
        "population",
        "client.batch_size",
    ]
    assert [int(line) for line, _ in told] == sorted(int(line) for line, _ in told)


def test_a_long_value_is_cut(author: Any) -> None:
    message = author.complaint("rounds: 4", f"rounds: {'x' * 500}")
    assert "..." in message
    assert len(message) < 150
