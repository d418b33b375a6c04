"""Correlated noise: what one site's rounds move, and how little noise is left in the sum."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import NeighboringRelation, dp_event, rdp
from numpy.typing import NDArray

from fedsim.privacy.accounting import epsilon
from fedsim.privacy.events import history
from fedsim.privacy.matrix_factorisation import (
    BUILTIN,
    Banded,
    Factorisation,
    Tree,
    depth,
    square_root,
)

Matrix = NDArray[np.float64]
ALL: tuple[Factorisation, ...] = (Banded(), Banded(bands=3), Banded(bands=1), Tree())


def inverse(part: Factorisation, num_rounds: int, separation: int) -> Matrix:
    """Return C^-1: its column s is what z_s adds to each round."""
    unit = torch.eye(num_rounds, dtype=torch.float64)
    return torch.stack(list(part.correlated(unit, separation))).numpy()


def error(part: Factorisation, num_rounds: int, separation: int) -> float:
    """Return the mean variance of the noise in the sum of the first t rounds, over t."""
    sums = np.cumsum(inverse(part, num_rounds, separation), axis=0)
    return float(np.square(sums).sum() / num_rounds)


def fenwick(num_leaves: int) -> Matrix:
    """Return which leaves each node holds: node t the rounds from t - 2^j + 1 to t."""
    found = np.zeros((num_leaves, num_leaves))
    for node in range(1, num_leaves + 1):
        size = max(2**j for j in range(20) if node % 2**j == 0)
        found[node - 1, node - size : node] = 1
    return found


def test_every_factorisation_is_tested() -> None:
    assert {type(part) for part in ALL} == set(BUILTIN)


def test_the_coefficients_are_the_square_root_of_prefix_sums() -> None:
    num = 40
    found = np.array(square_root(num))
    by_binomials = [math.comb(2 * k, k) / 4**k for k in range(num)]
    assert found / found[0] == pytest.approx(by_binomials)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert np.convolve(by_binomials, by_binomials)[:num] == pytest.approx(np.ones(num))


@pytest.mark.parametrize(("bands", "separation"), [("auto", 5), (3, 5), (1, 5), (8, 8)])
def test_banded_noise_solves_the_dense_system(bands: Any, separation: int) -> None:
    num, width = 13, separation if bands == "auto" else bands
    matrix = np.zeros((num, num))
    for row in range(num):
        for column in range(max(0, row - width + 1), row + 1):
            matrix[row, column] = square_root(width)[row - column]
    z = torch.randn(num, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = z.clone()
    w = torch.stack(list(Banded(bands=bands).correlated(z, separation)))
    assert np.linalg.solve(matrix, z.numpy()) == pytest.approx(w.numpy(), abs=1e-12)
    assert torch.equal(z, before)


@pytest.mark.parametrize("separation", [1, 2, 5, 8, 13])
def test_the_sum_of_tree_noise_is_that_of_the_nodes_which_make_it_up(separation: int) -> None:
    num = 13
    node = fenwick(separation) / math.sqrt(depth(separation))
    blocks = [node] * math.ceil(num / separation)
    matrix = np.zeros((len(blocks) * separation,) * 2)
    for at, block in zip(range(0, len(matrix), separation), blocks, strict=True):
        matrix[at : at + separation, at : at + separation] = block
    expected = np.linalg.inv(matrix[:num, :num])
    assert inverse(Tree(), num, separation) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("part", ALL, ids=repr)
@pytest.mark.parametrize("separation", [3, 4, 7])
def test_k_rounds_of_a_site_move_it_by_the_root_of_k(part: Factorisation, separation: int) -> None:
    """Whatever the site sends, each time something of norm 1 at most."""
    num = 12
    matrix = np.linalg.inv(inverse(part, num, separation))
    assert np.abs(np.triu(matrix, 1)).max() < 1e-12
    gram = matrix.T @ matrix
    worst = 0.0
    for count in range(1, 1 + math.ceil(num / separation)):
        for rounds in combinations(range(num), count):
            if all(b - a >= separation for a, b in pairwise(rounds)):
                moved = np.abs(gram[np.ix_(rounds, rounds)]).sum()  # of vectors that all line up
                worst = max(worst, moved / count)
    assert worst <= 1 + 1e-12
    assert worst == pytest.approx(1)


@pytest.mark.parametrize("scale", [0.5, 1 / math.sqrt(depth(4))])
def test_noise_of_another_scale_is_noticed(scale: float) -> None:
    """Such as that of a node of a tree, taken for that of the sensitivity."""

    class Wrong(Tree):
        def correlated(self, independent: Any, separation: int) -> Any:
            return (w * scale for w in super().correlated(independent, separation))

    with pytest.raises(AssertionError):
        test_k_rounds_of_a_site_move_it_by_the_root_of_k(Wrong(), 4)


def test_rounds_that_are_too_close_would_move_it_by_more() -> None:
    matrix = np.linalg.inv(inverse(Banded(bands=4), 12, 4))
    together = matrix[:, 2] + matrix[:, 4]
    assert np.linalg.norm(together) ** 2 > 2.5
    assert not Banded(bands=4).suits(2)
    assert Banded(bands=4).suits(4)


def test_one_band_is_independent_noise_to_the_bit() -> None:
    z = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for part, separation in ((Banded(bands=1), 4), (Banded(), 1), (Tree(), 1)):
        assert torch.equal(torch.stack(list(part.correlated(z, separation))), z)


@pytest.mark.parametrize("part", ALL, ids=repr)
def test_the_noise_of_a_round_does_not_depend_on_how_many_follow(part: Factorisation) -> None:
    z = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    few, many = (list(part.correlated(z[:num], 4)) for num in (6, 9))
    assert all(map(torch.equal, few, many))


@pytest.mark.parametrize("num_rounds", [32, 64, 100, 256, 512])
def test_at_equal_privacy_the_sums_have_less_noise(num_rounds: int) -> None:
    """Once through the sites; of independent noise the mean variance is (T + 1) / 2."""
    independent = error(Banded(bands=1), num_rounds, num_rounds)
    banded, tree = (error(part, num_rounds, num_rounds) for part in (Banded(), Tree()))
    assert independent == pytest.approx((num_rounds + 1) / 2)
    assert banded < 0.3 * tree
    assert tree < independent
    assert banded < (1 + math.log(num_rounds) / math.pi) ** 2  # Fichtenberger et al. 2023


def test_several_times_through_the_sites_it_still_has_less() -> None:
    for num_rounds, separation, times in ((60, 20, 5.9), (100, 10, 5.4), (500, 50, 19)):
        independent = (num_rounds + 1) / 2
        assert independent / error(Banded(), num_rounds, separation) > times
        assert error(Tree(), num_rounds, separation) < independent


@pytest.mark.parametrize("noise", [1.13, 8.83])
def test_trees_cost_no_more_than_their_paper_says(known: dict[str, Any], noise: float) -> None:
    """Its noise is that of a node, ours in units of the sensitivity."""
    row = known[f"tree_ftrl_so_nm{noise}"]
    at_once = history([(dp_event.GaussianDpEvent(noise / math.sqrt(depth(row["T"]))), 1)])
    found = epsilon(at_once, row["delta"])
    assert found == pytest.approx(row["tight_gaussian"], abs=1e-3)
    accountant = rdp.RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(dp_event.SingleEpochTreeAggregationDpEvent(noise, row["T"]))
    assert accountant.get_epsilon(row["delta"]) == pytest.approx(row["epsilon"], abs=1e-3)
    assert found < row["epsilon"] < row["published_upper"]
