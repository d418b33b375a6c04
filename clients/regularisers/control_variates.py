"""Control variates: correct each local step by how the site differs from all (SCAFFOLD, client).

Source: Karimireddy et al., ICML 2020, algorithm 1 with option II. Every gradient gets c - c_i, here
as the gradient of <c - c_i, w>, and after K steps with rate eta

    c_i+ = c_i - c + (w_t - w_i) / (K eta)

which is the mean of the gradients at this site's own steps, whatever c was. The site keeps c_i+ and
sends c_i+ - c_i; the server half is the strategy `scaffold`. The mean is exact for plain SGD alone:
with momentum or an adaptive optimiser w_t - w_i is no sum of gradients times eta, so a scenario
refuses both. Weight decay is part of the gradient, hence of the control variate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from clients.regularisers.base import Finished, Local, Regulariser, inner_product

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch

CONTROL = "control"
"""Name of the array record with c on its way down, with c_i+ - c_i on its way up."""


class ControlVariates(Regulariser):
    """Control variates against client drift (SCAFFOLD); needs the strategy `scaffold`.

    Memory: c_i, zero before the first round.
    """

    kind: Literal["control_variates"] = "control_variates"

    receives: ClassVar[tuple[str, ...]] = (CONTROL,)
    sends: ClassVar[tuple[str, ...]] = (CONTROL,)
    remembers: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{karimireddy2020scaffold,
  title = {{SCAFFOLD}: Stochastic Controlled Averaging for Federated Learning},
  author = {Karimireddy, Sai Praneeth and Kale, Satyen and Mohri, Mehryar and Reddi, Sashank and
            Stich, Sebastian and Suresh, Ananda Theertha},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2020},
}"""

    def penalty(self, model: nn.Module, batch: Batch, local: Local) -> Tensor:
        """Return <c - c_i, w>, a scalar."""
        c = local.received[CONTROL]
        corrections = {name: c[name] - local.memory.get(name, 0) for name in local.shared}
        return inner_product(corrections, model, local)

    def finish(self, model: nn.Module, local: Local) -> Finished:
        """Keep c_i+ and send c_i+ - c_i."""
        c, scale = local.received[CONTROL], local.num_steps * local.learning_rate
        changes = {
            name: (local.start[name] - w.detach()) / scale - c[name]
            for name, w in local.parameters(model)
        }
        memory = {name: change + local.memory.get(name, 0) for name, change in changes.items()}
        return Finished(memory, {CONTROL: changes})
