"""Model-contrastive learning: features near the global model's, away from the last local ones.

Source: Li, He and Song, CVPR 2021 (MOON). With z the features of an image under the network in
training, z_glob those under the global model and z_prev those under the site's previous local
model, and sim the cosine of the angle between two, each image adds mu times

    -log( e^{sim(z, z_glob)/tau} / (e^{sim(z, z_glob)/tau} + e^{sim(z, z_prev)/tau}) )

Differences from the paper: no projection head is added, z is what the network's last linear layer
is shown. Before a site has a previous model the term is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.regularisers.base import Finished, Local, Regulariser

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class Contrastive(Regulariser):
    """The model-contrastive term on the features of a batch (MOON).

    Memory: the local model, parameters and buffers. A step shows each image to two more networks.
    """

    kind: Literal["contrastive"] = "contrastive"
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="mu")
    temperature: float = Field(default=0.5, gt=0, allow_inf_nan=False, description="tau")

    remembers: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{li2021model,
  title = {Model-Contrastive Federated Learning},
  author = {Li, Qinbin and He, Bingsheng and Song, Dawn},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2021},
}"""

    def penalty(self, model: nn.Module, batch: Batch, local: Local) -> Tensor:
        """Return mu times the mean contrastive loss of the batch, a scalar."""
        from torch.nn.functional import cosine_similarity, softplus

        assert local.features is not None, "the training notes them"
        z = local.features.last.float()
        if not local.memory:
            return z.new_zeros(())
        z_glob = local.features.under(local.start, batch.images).float()
        z_prev = local.features.under(local.memory, batch.images).float()
        gap = cosine_similarity(z, z_prev) - cosine_similarity(z, z_glob)
        return self.weight * softplus(gap / self.temperature).mean()

    def finish(self, model: nn.Module, local: Local) -> Finished:
        """Keep the local model."""
        return Finished({name: t.detach() for name, t in model.state_dict().items()})
