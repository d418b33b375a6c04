"""Gradients of the units of a batch, one for each: their norms, and their sum once clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Formed:
    """Gradients of one parameter, written out.

    Args:
        values: (unit, *shape).
    """

    values: Tensor

    def squared_norms(self) -> Tensor:
        """Return the square of the L2 norm of each, (unit,)."""
        flat = self.values.flatten(1)
        squares: Tensor = torch.linalg.vecdot(flat, flat)
        return squares

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return the sum of gradient times factor, (*shape).

        Args:
            factors: (unit,).
        """
        total: Tensor = torch.tensordot(factors, self.values, 1)
        return total

    def without(self, left_out: Tensor) -> Formed:
        """Return the same with zeros for some units, (unit,), bool."""
        return Formed(_zeroed(self.values, left_out))

    def formed(self) -> Formed:
        """Return itself."""
        return self

    def added(self, unit_of_row: Tensor, num_units: int) -> Formed:
        """Return sums over rows, where those of a unit are not added up yet.

        Args:
            unit_of_row: (row,), int64.
            num_units: how many there are.
        """
        sums = self.values.new_zeros(num_units, *self.values.shape[1:])
        return Formed(sums.index_add(0, unit_of_row, self.values))


@dataclass(frozen=True)
class Outer:
    """Gradients of a matrix, each the outer product of two vectors.

    Norm and weighted sum are had without forming it (Goodfellow 2015, arXiv:1510.01799).

    Args:
        left: (unit, row of the matrix).
        right: (unit, column of the matrix).
    """

    left: Tensor
    right: Tensor

    def squared_norms(self) -> Tensor:
        """Return the square of the Frobenius norm of each, (unit,)."""
        return Formed(self.left).squared_norms() * Formed(self.right).squared_norms()

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return the sum of gradient times factor, (row, column).

        Args:
            factors: (unit,).
        """
        return (self.left * factors[:, None]).T @ self.right

    def without(self, left_out: Tensor) -> Outer:
        """Return the same with zeros for some units, (unit,), bool."""
        return Outer(_zeroed(self.left, left_out), _zeroed(self.right, left_out))

    def formed(self) -> Formed:
        """Return the products."""
        return Formed(self.left[:, :, None] * self.right[:, None, :])


UnitGradients = dict[Tensor, Formed | Outer]
"""Gradients of every unit, by parameter."""


@dataclass(frozen=True)
class Clipped:
    """Clipped gradients of units, added up.

    Args:
        sums: by parameter.
        num_clipped: units whose gradient was too long, a scalar.
        num_not_finite: units that were left out, a scalar.
    """

    sums: dict[Tensor, Tensor]
    num_clipped: Tensor
    num_not_finite: Tensor


def clip(gradients: UnitGradients, clip_norm: float, num_layers: int | None = None) -> Clipped:
    """Return the sum over units of their gradients, each scaled down to its bound.

    Guarantees, up to rounding: the part of one unit in all sums together has an L2 norm of at most
    `clip_norm`; a gradient within its bounds is left as it is; one that is not finite, or whose
    squared norm is not, becomes zero.

    Args:
        gradients: of every unit.
        clip_norm: C.
        num_layers: L, to clip each parameter tensor of so many to C / sqrt(L); all parameters
            together if not given.
    """
    squares = torch.stack([of_units.squared_norms() for of_units in gradients.values()])
    left_out = ~squares.sum(0).isfinite()
    if left_out.any():
        gradients = {p: of_units.without(left_out) for p, of_units in gradients.items()}
        squares = squares.masked_fill(left_out, 0.0)
    bound = clip_norm if num_layers is None else clip_norm / math.sqrt(num_layers)
    norms = (squares if num_layers else squares.sum(0, keepdim=True)).sqrt()
    factors = bound / norms.clamp(min=bound)
    of_layers = factors.expand(len(gradients), -1)
    sums = {
        parameter: of_units.weighted_sum(factors)
        for (parameter, of_units), factors in zip(gradients.items(), of_layers, strict=True)
    }
    return Clipped(sums, (norms > bound).any(0).sum(), left_out.sum())


def _zeroed(values: Tensor, left_out: Tensor) -> Tensor:
    """Return values with zeros for some units, whatever stood there."""
    return values.masked_fill(left_out.view(-1, *[1] * (values.ndim - 1)), 0.0)
