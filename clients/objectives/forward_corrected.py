"""Cross-entropy with the labels that are shown, where these were made wrong by a known chance.

Source: Patrini, Rozza, Menon, Nock, Qu, Making Deep Neural Networks Robust to Label Noise: A Loss
Correction Approach, CVPR 2017, its forward correction. With T_cy = P(label y is shown | label c):

    -mean_i log sum_c p_ic T_c,y_i,

the log-likelihood of the labels shown, so that p is still that of the label itself. This is how to
learn from labels under randomised response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from clients.objectives.base import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class ForwardCorrected(Objective):
    """Cross-entropy through the chances by which labels were made wrong; plain where none were.

    A label that no class can show costs what the smallest number of the dtype does, not infinity.

    >>> ForwardCorrected().kind
    'forward_corrected'
    """

    kind: Literal["forward_corrected"] = "forward_corrected"

    reference: ClassVar[str] = """@inproceedings{patrini2017making,
  title = {Making Deep Neural Networks Robust to Label Noise: A Loss Correction Approach},
  author = {Patrini, Giorgio and Rozza, Alessandro and Menon, Aditya Krishna and Nock, Richard
            and Qu, Lizhen},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017},
}"""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the mean negative log-likelihood of the labels shown, a scalar."""
        import torch
        from torch.nn.functional import nll_loss

        log_p = model(batch.images).log_softmax(dim=1)
        if context.confusion is not None:
            smallest = torch.finfo(log_p.dtype).tiny
            log_chances = context.confusion.to(log_p).clamp(min=smallest).log()
            log_p = (log_p[:, :, None] + log_chances).logsumexp(dim=1)
        return nll_loss(log_p, batch.labels)
