"""The appearance shifts that come with fedsim."""

from fedsim.data.monai_transforms import MonaiTransforms
from fedsim.data.scanner import Scanner

BUILTIN = (Scanner, MonaiTransforms)
