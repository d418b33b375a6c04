"""Which round is the best, and what damaged folders are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.metrics import METRICS
from fedsim.errors import InputError
from fedsim.records import RunFolder, Selection, read
from fedsim.records.read import select

Values = dict[int, float | None]


def rows(values: Values, metric: str = "auroc", split: str = "validation") -> list[dict[str, Any]]:
    return [
        {"round": round, "split": split, "site": "pooled", "metric": metric, "value": value}
        for round, value in values.items()
    ]


@pytest.mark.parametrize(
    ("metric", "values", "best", "final"),
    [
        ("auroc", {0: 0.5, 1: 0.7, 2: 0.6}, 1, 2),
        ("loss", {0: 0.5, 1: 0.7, 2: 0.4, 3: 0.6}, 2, 3),
        ("auroc", {0: 0.5, 2: 0.7, 4: 0.7, 6: 0.7}, 2, 6),
        ("ece", {0: 0.5, 2: 0.1, 4: 0.1}, 2, 4),
        ("auroc", {0: None, 1: None, 2: 0.1, 3: None}, 2, 3),
        ("auroc", {0: None, 1: None}, 0, 1),
        ("quadratic_kappa", {0: None, 1: -0.3, 2: -0.2}, 2, 2),
        ("auroc", {}, 0, 0),
    ],
)
def test_the_first_of_the_best_defined_values(
    metric: str, values: Values, best: int, final: int
) -> None:
    higher = metric not in ("loss", "ece")
    assert select(rows(values, metric), metric) == Selection(metric, higher, best, final)


def test_only_pooled_validation_values_of_the_metric_choose() -> None:
    chosen = rows({0: 0.2, 1: 0.1})
    others = [
        *rows({0: 0.1, 1: 0.9}, split="test"),
        *rows({0: 0.1, 1: 0.9}, metric="accuracy"),
        *[{**row, "site": "site-00"} for row in rows({0: 0.1, 5: 0.9})],
    ]
    assert select([*others, *chosen], "auroc") == Selection("auroc", True, 0, 1)
    assert select(others, "accuracy").best_round == 1


@given(
    st.sampled_from(sorted(METRICS)),
    st.dictionaries(st.integers(0, 50), st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    st.randoms(use_true_random=False),
)
def test_no_round_is_better_and_no_earlier_one_as_good(
    metric: str, values: Values, random: Any
) -> None:
    shuffled = rows(values, metric)
    random.shuffle(shuffled)
    best = select(shuffled, metric).best_round
    sign = 1 if METRICS[metric].higher_is_better else -1
    defined = {round: sign * value for round, value in values.items() if value is not None}
    if not defined:
        assert best == 0
        return
    assert all(defined[best] >= value for value in defined.values())
    assert all(defined[best] > value for round, value in defined.items() if round < best)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a row in every journal."""
    made = RunFolder.create(
        tmp_path / "run",
        scenario={"rounds": 2, "evaluation": {"select_by": "auroc"}},
        digest="d",
        population={"sites": [], "class_names": [], "images": {}, "checksums": {}},
        keep_every=None,
    )
    made.started({"python": "3.11"})
    made.add_round({"round": 1})
    made.add_metrics(rows({0: 0.5, 1: 0.6}))
    made.timed({"round": 1, "seconds": 0.5})
    made.close()
    return made.path


WRITTEN = (
    "run.json",
    "scenario.yaml",
    "population.json",
    "environment.jsonl",
    "rounds.jsonl",
    "metrics.jsonl",
    "timing.jsonl",
)
JOURNALS = WRITTEN[3:]


def test_an_undamaged_folder_is_read(folder: Path) -> None:
    record = read(folder)
    assert record.selection == Selection("auroc", True, 1, 1)
    assert record.rounds == [{"round": 1}]
    assert record.timing == [{"round": 1, "seconds": 0.5}]


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[1\n", b"[]\n", b"3\n"])
@pytest.mark.parametrize("name", WRITTEN)
def test_damage_is_an_input_error_with_the_file(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"run/{name}: is damaged: "):
        read(folder)
    with pytest.raises(InputError, match=name):
        RunFolder(folder)


@pytest.mark.parametrize("name", ["run.json", "scenario.yaml", "population.json"])
def test_an_empty_or_lacking_section_is_an_input_error(folder: Path, name: str) -> None:
    for content in ("", "{}"):
        (folder / name).write_text(content)
        with pytest.raises(InputError, match=rf"{name}: is damaged"):
            read(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"is no run folder" if name == "run.json" else name):
        read(folder)


@pytest.mark.parametrize("content", [None, b"", b'{"round": 1}'])
def test_a_private_run_without_a_ledger_is_not_read_as_if_it_were_none(
    folder: Path, content: bytes | None
) -> None:
    scenario = (folder / "scenario.yaml").read_text("utf-8")
    (folder / "scenario.yaml").write_text(scenario + "privacy: {delta: 1.0e-5}\n", "utf-8")
    if content is not None:
        (folder / "ledger.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"ledger\.jsonl: is missing or has no whole line"):
        read(folder)
    (folder / "ledger.jsonl").write_bytes(b'{"round": 1}\n')
    assert read(folder).ledger == [{"round": 1}]
    (folder / "ledger.jsonl").unlink()
    (folder / "rounds.jsonl").unlink()
    assert not read(folder).ledger


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_that_is_not_there_yet_is_empty(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert not getattr(read(folder), name.removesuffix(".jsonl"))


@pytest.mark.parametrize("name", JOURNALS)
def test_a_damaged_line_in_the_middle_is_not_skipped(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(b'{"round": \n' + whole)
    with pytest.raises(InputError, match=name):
        read(folder)


def test_another_format_is_refused_with_both_versions(folder: Path) -> None:
    changed = {**json.loads((folder / "run.json").read_text()), "format": 1}
    (folder / "run.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"in format 1, this fedsim reads format 4"):
        read(folder)


@pytest.mark.parametrize("name", [".", "absent", "run/checkpoints", "run/run.json"])
def test_what_is_no_run_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        read(folder.parent / name)
