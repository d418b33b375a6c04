"""Parameters that never leave a site (FedBN, FedPer).

FedBN (Li et al., ICLR 2021) keeps batch normalisation, FedPer (Arivazhagan et al., 2019) the last
layers: both are a choice of names. What is chosen starts at the initial model's values and is then
trained at each site alone; the server never sees it, and messages are shorter by it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.personalisation.base import Personalisation

if TYPE_CHECKING:
    from torch import nn

NORMALISATION = "normalisation"


class PrivateParameters(Personalisation):
    """Each site keeps some parameters and buffers to itself (FedBN, FedPer).

    Memory: their values.

    >>> PrivateParameters(names=("normalisation", "head.*")).remembers
    True
    """

    kind: Literal["private_parameters"] = "private_parameters"
    names: tuple[str, ...] = Field(
        default=(NORMALISATION,),
        min_length=1,
        description="patterns such as `head.*`, or `normalisation` for all that normalisation "
        "layers hold",
    )

    remembers: ClassVar[bool] = True
    keeps_parameters: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{li2021fedbn,
  title = {{FedBN}: Federated Learning on Non-{IID} Features via Local Batch Normalization},
  author = {Li, Xiaoxiao and Jiang, Meirui and Zhang, Xiaofei and Kamp, Michael and Dou, Qi},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2021},
}
@misc{arivazhagan2019federated,
  title = {Federated Learning with Personalization Layers},
  author = {Arivazhagan, Manoj Ghuhan and Aggarwal, Vinay and Singh, Aaditya Kumar and
            Choudhary, Sunav},
  eprint = {1912.00818},
  archiveprefix = {arXiv},
  year = {2019},
}"""

    def private(self, model: nn.Module) -> frozenset[str]:
        """Return the names of parameters and buffers that a pattern fits."""
        known = list(model.state_dict())
        chosen: set[str] = set()
        for pattern in self.names:
            fitting = (
                normalising(model)
                if pattern == NORMALISATION
                else {name for name in known if fnmatchcase(name, pattern)}
            )
            if not fitting:
                raise ValueError(
                    f"{pattern!r} fits no parameter of this network, which has {', '.join(known)}"
                )
            chosen |= fitting
        if chosen >= {name for name, _ in model.named_parameters()}:
            raise ValueError("every parameter is private, so the sites would share nothing")
        return frozenset(chosen)


def normalising(model: nn.Module) -> set[str]:
    """Return the names of what the normalisation layers of a network hold."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    layers = (_NormBase, nn.GroupNorm, nn.LayerNorm)
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, layers)
        for name in module.state_dict()
    }
