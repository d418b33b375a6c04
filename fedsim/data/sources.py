"""The data sources that come with fedsim."""

from fedsim.data.medmnist import MedMnist
from fedsim.data.synthetic import Synthetic

BUILTIN = (Synthetic, MedMnist)
