"""Means of client updates whose noise is correlated from round to round."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedsim.privacy.matrix_factorisation import Factorisation
from fedsim.privacy.private_mean import NOISE, NoisyMean

if TYPE_CHECKING:
    from fedsim.seeds import Streams


class CorrelatedMean(NoisyMean):
    """(sum_k clip(g_k, C) + w_t) / D, where w = C^-1 z and z_t is what `NoisyMean` would add.

    The noise of a round is a function of the streams of all rounds up to it. A run that goes on
    draws those before again and keeps none.

    Args:
        clip_norm: bound on the norm of an update.
        noise_multiplier: z, over the sensitivity.
        num_expected: D.
        streams: of which one per round makes z_t.
        factorisation: what w is of z.
        separation: no site takes part twice within so many rounds.
    """

    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float,
        num_expected: float,
        streams: Streams,
        factorisation: Factorisation,
        separation: int,
    ) -> None:
        super().__init__(clip_norm, noise_multiplier, num_expected, streams)
        self._factorisation, self._separation = factorisation, separation
        self._correlated: Iterator[Tensor] | None = None
        self._round = 0

    def release(self, round: int) -> dict[str, Tensor]:
        """Return the noisy mean of a round; they are asked for in ascending order."""
        totals = self._totals
        noise = self._noise_of(round) * (self._noise * self.clip_norm)
        parts = torch.split(noise, [total.numel() for total in totals.values()])
        for total, part in zip(totals.values(), parts, strict=True):
            total.add_(part.view_as(total).to(total.device))
            total /= self.num_expected
        return totals

    def _noise_of(self, round: int) -> Tensor:
        """Return w_t in units of its scale, flat."""
        if self._correlated is None:
            shapes = [total.shape for total in self._totals.values()]
            self._correlated = self._factorisation.correlated(
                self._independent(shapes), self._separation
            )
        ahead, self._round = round - self._round - 1, round
        return next(islice(self._correlated, ahead, None))

    def _independent(self, shapes: list[torch.Size]) -> Iterator[Tensor]:
        """Yield z_1, z_2, ..., each drawn parameter by parameter."""
        for round in count(1):
            generator = self._streams.torch_apart(NOISE, round)
            yield torch.cat(
                [
                    torch.randn(shape, generator=generator, dtype=torch.float64).flatten()
                    for shape in shapes
                ]
            )
