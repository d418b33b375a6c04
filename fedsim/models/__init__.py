"""Networks that a scenario can name. Describing one is instant; torch is loaded by `build`."""

from fedsim.models.base import Model
from fedsim.models.mlp import Mlp
from fedsim.models.monai_network import MonaiNetwork
from fedsim.models.small_cnn import SmallCnn

BUILTIN = (SmallCnn, Mlp, MonaiNetwork)

__all__ = ["BUILTIN", "Mlp", "Model", "MonaiNetwork", "SmallCnn"]
