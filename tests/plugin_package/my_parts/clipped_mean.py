"""Weighted mean of updates whose norm is bounded.

Source: Sun et al., Can You Really Backdoor Federated Learning?, 2019 (norm thresholding).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies import Strategy
from strategies.base import NOTHING, State

if TYPE_CHECKING:
    from torch import Tensor


class ClippedMean(Strategy):
    """Every update is scaled down to `max_norm`, over all parameters, before they are averaged."""

    kind: Literal["clipped_mean"] = "clipped_mean"
    max_norm: float = Field(default=1.0, gt=0, description="of an update")

    reference: ClassVar[str] = """@article{sun2019can,
  title = {Can You Really Backdoor Federated Learning?},
  author = {Sun, Ziteng and Kairouz, Peter and Suresh, Ananda Theertha and McMahan, H. Brendan},
  journal = {arXiv preprint arXiv:1911.07963},
  year = {2019},
}"""

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return sum_k n_k min(1, max_norm / ||g_k||) g_k / sum n, and the state as it was."""
        import torch

        stacks = {name: updates[name] for name in updates}
        squares = [s.double().square().reshape(len(s), -1).sum(1) for s in stacks.values()]
        norms = torch.stack(squares).sum(0).sqrt()
        shares = weights / weights.sum() * (self.max_norm / norms).clamp(max=1)
        mean = {n: torch.tensordot(shares.to(s.dtype), s, dims=1) for n, s in stacks.items()}
        return mean, state
