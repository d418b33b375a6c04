"""Networks of MONAI by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from fedsim.models.base import Model

if TYPE_CHECKING:
    from torch import nn

MIN_IMAGE_SIZE = {"DenseNet121": 64, "EfficientNetB0": 64, "ResNet18": 33, "ResNet50": 33}
"""Below it nothing is left of an image, or too little to normalise a batch of one. DenseNet121
would do with 61."""
RESNET: dict[str, Any] = {
    "conv1_t_size": 7,
    "conv1_t_stride": 2,
    "shortcut_type": "B",
    "bias_downsample": False,
}
"""What makes MONAI's ResNet that of He et al. (2016) in two dimensions, with the names and shapes
of parameters that torchvision gives it, so that weights saved there fit."""

_RESNET = """@inproceedings{he2016deep,
  title = {Deep Residual Learning for Image Recognition},
  author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2016},
}"""
PAPERS = {
    "DenseNet121": """@inproceedings{huang2017densely,
  title = {Densely Connected Convolutional Networks},
  author = {Huang, Gao and Liu, Zhuang and {van der Maaten}, Laurens and Weinberger, Kilian Q.},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017},
}""",
    "EfficientNetB0": """@inproceedings{tan2019efficientnet,
  title = {{EfficientNet}: Rethinking Model Scaling for Convolutional Neural Networks},
  author = {Tan, Mingxing and Le, Quoc V.},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2019},
}""",
    "ResNet18": _RESNET,
    "ResNet50": _RESNET,
}


class MonaiNetwork(Model):
    """A 2-D classification network of `monai.networks.nets`, from random weights or a file's.

    By default all use batch normalisation: its running statistics are averaged over sites like any
    buffer, and never enter an aggregation rule. Private training needs `normalisation: group`: 32
    groups of channels, or as many as divide both, in the same places. Weights that were learned
    with the one do not serve the other. The ResNets take torchvision's weights.

    Args:
        name: the network; DenseNet121 and EfficientNetB0 take 64 pixels or more, ResNets 33.
        normalisation: of batches, or of groups of channels of one image.
    """

    kind: Literal["monai"] = "monai"
    name: Literal["DenseNet121", "EfficientNetB0", "ResNet18", "ResNet50"] = "DenseNet121"
    normalisation: Literal["batch", "group"] = "batch"

    @property
    def paper(self) -> str:
        """BibTeX of the network itself."""
        return PAPERS[self.name]

    @property
    def min_image_size(self) -> int:
        """The smallest image that the network can be trained on."""
        return MIN_IMAGE_SIZE[self.name]

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        import monai.networks.nets

        nets: Any = monai.networks.nets
        network: Any
        match self.name:
            case "DenseNet121":
                network = nets.DenseNet121(
                    spatial_dims=2, in_channels=num_channels, out_channels=num_classes
                )
            case "EfficientNetB0":
                network = nets.EfficientNetBN(
                    "efficientnet-b0",
                    pretrained=False,
                    spatial_dims=2,
                    in_channels=num_channels,
                    num_classes=num_classes,
                )
            case _:
                make = nets.resnet18 if self.name == "ResNet18" else nets.resnet50
                network = make(
                    spatial_dims=2, n_input_channels=num_channels, num_classes=num_classes, **RESNET
                )
        if self.normalisation == "group":
            from clients.private_models import made_private

            network, _ = made_private(network)
        return cast("nn.Module", network)
