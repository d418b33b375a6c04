"""The moving average of the global model over rounds, judged and exported in its place.

    a_t = b_t a_(t-1) + (1 - b_t) w_t,    b_t = min(decay, (1 + t) / (10 + t)),    a_0 = w_0

Noise of single rounds averages out in it. It is a function of released models and costs no privacy;
sites go on from w_t, so it changes nothing of the training. De et al. (2022, arXiv:2204.13650)
average over the steps of one training, with this warm-up; here a step is a round, as what a site
sends is what the server averages.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def averaged(
    before: Mapping[str, Tensor], model: Mapping[str, Tensor], decay: float, round: int
) -> dict[str, Tensor]:
    """Return the average after a round; what is no real number is that of the model.

    Args:
        before: the average after the round before.
        model: the global model after the round.
        decay: of the average, below 1; 0 for the model itself.
        round: t, from 1.
    """
    kept = min(decay, (1 + round) / (10 + round))
    return {
        name: before[name].lerp(tensor, 1 - kept) if tensor.is_floating_point() else tensor
        for name, tensor in model.items()
    }
