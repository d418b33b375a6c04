"""The data sources that come with fedsim."""

from fedsim.data.images import Images
from fedsim.data.medmnist import MedMnist
from fedsim.data.npz import Npz
from fedsim.data.synthetic import Synthetic

BUILTIN = (Synthetic, MedMnist, Npz, Images)
