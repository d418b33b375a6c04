"""Reading YAML and `--set`: what is accepted, and where each mistake is said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.errors import ScenarioError
from fedsim.scenario import from_data, load_scenario
from fedsim.scenario.yaml_tree import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("-1E+3", -1000.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("12", 12),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("+3", 3),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("-", [None]),
        ("e5", "e5"),
        (".", "."),
        ("'3'", "3"),
        ("-.inf", -float("inf")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = parse(f"a: {text}" if text != "-" else "a:\n  -", "x").data["a"]
    assert read == value
    assert type(read) is type(value)


def test_whatever_is_dumped_is_read_again() -> None:
    data = {"a": [1e-5, 1e300, 0.1, "yes", "true", "3", "", None, True], "b": {"c": -7}}
    assert parse(yaml.safe_dump(data), "x").data == data


def test_places_are_those_of_keys_and_items() -> None:
    tree = parse("a: 1\nb:\n  - x\n  - c: 2\n", "file.yaml")
    assert tree.where(("a",)) == "file.yaml:1:1"
    assert tree.where(("b", 0)) == "file.yaml:3:5"
    assert tree.where(("b", 1, "c")) == "file.yaml:4:5"
    assert tree.where(("b", 1, "missing")) == "file.yaml:4:5"
    assert tree.where(("nowhere",)) == "file.yaml:1:1"


def test_an_alias_repeats_what_its_anchor_holds() -> None:
    assert parse("a: &x {b: [1, 2]}\nc: *x\n", "x").data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


def test_own_keys_win_over_merged_ones_and_earlier_merges_over_later() -> None:
    tree = parse("s: {<<: [{a: 1, b: 1}, {b: 2, c: 2}], c: 3}", "x")
    assert tree.data["s"] == {"a": 1, "b": 1, "c": 3}


def test_a_merge_says_what_pyyaml_says() -> None:
    text = "p: &p {a: 1, b: {c: 2}}\nq: &q {<<: *p, d: 4}\nr:\n  a: 0\n  <<: [*q, {e: 5}]\n"
    assert parse(text, "x").data == yaml.safe_load(text)


def test_a_merged_key_has_its_place_where_it_is_written() -> None:
    tree = parse("p: &p\n  a: 1\nq:\n  <<: *p\n  b: 2\n", "x")
    assert tree.where(("q", "a")) == "x:2:3"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", "1:1", "an empty file"),
        ("# nothing\n", "1:1", "an empty file"),
        ("- a\n", "1:1", "expected keys such as `version:`"),
        ("hello", "1:1", "got 'hello'"),
        ("a: [1\nb: 2", "2:2", "not valid YAML"),
        ("a:\n\t- 1", "2:1", "a tab; indent with spaces"),
        ("a: 1\n---\nb: 2\n", "2:1", "another document"),
        ("a: *nobody", "1:4", "undefined alias"),
        ("a: 1\nb: \x00", "2:4", "a character that text cannot hold"),
        ("a: !thing 1", "1:4", "the tag !thing means nothing here"),
        ("a: !!python/object:os.system {}", "1:4", "means nothing here"),
        ("a: !!float many", "1:4", "'many' is not what its tag says"),
        ("? [a, b]\n: 1", "1:3", "a key must be one word or number"),
        ("a: {<<: 3}", "1:9", "`<<` takes a section"),
        ("a: 1\nb: 1\na: 2\n", "3:1", "a\n  this key is given twice, first on line 1"),
        ("d: {x: {y: 1, y: 2}}", "1:15", "d.x.y\n  this key is given twice"),
        ("d: {0: 1, '0': 2}", "1:11", "d.0\n  this key is given twice"),
    ],
)
def test_yaml_mistakes_have_a_place(author: Any, text: str, place: str, what: str) -> None:
    message = author.complaint_about(text)
    assert message.startswith(f"FILE:{place}: ")
    assert what in message


def test_every_key_given_twice_is_reported(author: Any) -> None:
    message = author.complaint_about("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert message.count("given twice") == 2


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {<<: *x}", "a: &x {b: *x}", "[" * 5000])
def test_endless_nesting_is_refused(author: Any, text: str) -> None:
    assert "nested too deeply" in author.complaint_about(text)


def test_deep_nesting_is_refused(author: Any) -> None:
    assert "nested too deeply" in author.complaint("rounds: 4", f"rounds: {'[' * 99}{']' * 99}")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff", "näme".encode("utf-16")])
def test_what_is_no_text_is_refused(author: Any, content: bytes) -> None:
    assert author.complaint_about(content) == (
        "FILE:1:1: is not text in UTF-8; expected a scenario file (YAML), saved as UTF-8"
    )


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none.yaml: cannot be read: No such file"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="is a folder; expected a scenario file"):
        load_scenario(tmp_path)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("rounds=7", lambda s: s.rounds == 7),
        ("client.optimizer.learning_rate=1e-3", lambda s: s.client.optimizer.learning_rate == 1e-3),
        ("model.widths.1=32", lambda s: s.model.widths == (8, 32)),
        ("model.widths=[8]", lambda s: s.model.widths == (8,)),
        ("model={kind: mlp, widths: [4]}", lambda s: s.model.kind == "mlp"),
        (
            "server_optimizer={kind: sgd, momentum: 0.5}",
            lambda s: s.server_optimizer.momentum == 0.5,
        ),
        (
            "server_optimizer={kind: fed_adam, tau: 1e-2}",
            lambda s: s.server_optimizer.tau == 0.01,
        ),
        ("cohort={kind: fixed_size, num_sites: 2}", lambda s: s.cohort.num_sites == 2),
        ("description=a=b", lambda s: s.description == "a=b"),
        ("data.label_map.1=1", lambda s: s.data.label_map[1] == 1),
        (
            "population.appearance={kind: scanner, severity: mild}",
            lambda s: s.population.appearance.level == 0.2,
        ),
    ],
)
def test_set_reaches_everything(author: Any, change: str, read: Any) -> None:
    assert read(author.load(changes=(change,)))


def test_later_changes_win(author: Any) -> None:
    assert author.load(changes=("rounds=7", "rounds=8")).rounds == 8


def test_two_changes_can_swap_epochs_for_steps(author: Any) -> None:
    client = author.load(changes=("client.steps=3", "client.epochs=null")).client
    assert (client.steps, client.epochs) == (3, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rounds", "--set rounds: expected key.path=value, such as --set rounds=3"),
        ("=3", "--set =3: expected key.path=value"),
        ("model..kind=mlp", "--set model..kind=mlp: expected key.path=value"),
        ("rounds=[1", "--set rounds=[1: value:1:3: not valid YAML"),
        (
            "rounds=",
            "--set rounds=: rounds\n  expected a whole number > 0 and <= 1000000, got nothing",
        ),
        ("ronds=3", "--set ronds=3: ronds\n  unknown key; did you mean 'rounds'?"),
        ("round=3", "--set round=3: round\n  unknown key; did you mean 'rounds'?"),
        (
            "client.optimzer.momentum=0.3",
            "--set client.optimzer.momentum=0.3: client.optimzer\n"
            "  unknown key; did you mean 'optimizer'?",
        ),
        ("rounds.x=1", "--set rounds.x=1: rounds is 4, no section; set it as a whole"),
        ("model.widths.7=8", "--set model.widths.7=8: model.widths has 2 entries"),
        ("model.widths.-1=8", "--set model.widths.-1=8: model.widths has 2 entries"),
        ("model.widths.x=8", "--set model.widths.x=8: model.widths has 2 entries"),
        ("cohort.num_sites=2", "--set cohort.num_sites=2: cohort\n  `kind` is required"),
        (
            "server_optimizer={kind: sgd, momentum: 2}",
            "--set server_optimizer={kind: sgd, momentum: 2}: server_optimizer.momentum\n"
            "  expected a number >= 0 and < 1, got 2",
        ),
        (
            "cohort={kind: fixed_size, num_sites: 9}",
            "--set cohort={kind: fixed_size, num_sites: 9}: cohort.num_sites\n  a cohort of 9",
        ),
    ],
)
def test_mistakes_in_set_are_said_to_be_there(author: Any, change: str, message: str) -> None:
    assert author.complaint(changes=(change,)).startswith(message)


def test_a_change_of_kind_blames_the_keys_in_the_file(author: Any) -> None:
    message = author.complaint(changes=("strategy.kind=weighted_mean",))
    assert message.startswith("FILE:18:38: strategy.keep\n  unknown key of kind weighted_mean")


def test_every_unusable_change_is_reported(author: Any) -> None:
    lines = author.complaint(changes=("foo", "rounds.x=1", "rounds=2")).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["--set foo", "--set rounds.x=1"]


def test_plain_data_are_named_by_their_origin(author: Any) -> None:
    data = author.load().resolved() | {"rounds": 0}
    with pytest.raises(ScenarioError, match=r"^record: rounds\n  expected a whole number > 0"):
        from_data(data, "record")


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {(1, 2): 3}])
def test_data_that_json_cannot_hold_are_refused(author: Any, value: Any) -> None:
    with pytest.raises(ScenarioError, match="expected what JSON can hold"):
        from_data(author.load().resolved() | {"seed": value}, "record")
