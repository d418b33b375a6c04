"""Units: whole patients, or single examples where nobody says whose they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.units import Units, check_patients, check_sites
from fedsim.errors import DataError

ids = st.lists(st.sampled_from(["", "ann", "bob", "0", "1", "2"]), min_size=1, max_size=30)


@given(names=ids, seed=st.integers(0, 2**32))
def test_units_are_the_patients_and_their_majority(names: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients, labels = np.array(names), rng.integers(0, 3, len(names))
    units = Units.of(labels, {"patient": patients}, 3)
    assert len(units.labels) == len({n for n in names if n}) + names.count("")
    for unit in range(len(units.labels)):
        mine = units.examples(np.array([unit]))
        assert len(set(patients[mine])) == 1
        assert len(mine) == (1 if patients[mine[0]] == "" else names.count(patients[mine[0]]))
        counts = np.bincount(labels[mine], minlength=3)
        assert counts[units.labels[unit]] == counts.max()
    everything = units.examples(np.arange(len(units.labels)))
    np.testing.assert_array_equal(everything, np.arange(len(names)))


def test_without_patients_every_example_is_a_unit() -> None:
    labels = np.array([2, 0, 1])
    units = Units.of(labels, {"site": np.array(["a", "b", "a"])}, 3)
    np.testing.assert_array_equal(units.labels, labels)
    np.testing.assert_array_equal(units.examples(np.array([2, 0])), [0, 2])


def test_columns_that_differ_within_a_patient_are_left_out() -> None:
    columns = {
        "patient": np.array(["p", "p", "q"]),
        "site": np.array(["a", "a", "b"]),
        "view": np.array(["PA", "AP", "PA"]),
    }
    units = Units.of(np.zeros(3, np.int64), columns, 1)
    assert set(units.columns) == {"patient", "site"}
    np.testing.assert_array_equal(units.columns["site"], ["a", "b"])


def test_a_patient_in_two_splits_is_refused() -> None:
    check_patients({"train": np.array(["p", "", "q"]), "test": np.array(["r", ""])})
    with pytest.raises(DataError, match=r"1 patients .* q \(train and test\)"):
        check_patients({"train": np.array(["p", "q"]), "test": np.array(["q"])})


def test_a_patient_at_two_sites_is_refused_with_both_ways_out() -> None:
    check_sites(np.array(["p", "p", ""]), np.array(["A", "A", "B"]), "site")
    with pytest.raises(DataError, match=r"p \(A and B\).*such as A/p"):
        check_sites(np.array(["p", "p", "q"]), np.array(["A", "B", "B"]), "site")
