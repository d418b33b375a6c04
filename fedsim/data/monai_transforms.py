"""A scanner per site, made of MONAI's intensity transforms.

>>> sites = {"Basel": [{"name": "AdjustContrast", "options": {"gamma": 1.5}}]}
>>> MonaiTransforms(severity=0, sites=sites).named_sites()
('Basel',)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.data.appearance import Appearance
from fedsim.errors import DataError
from fedsim.plugins import Part

if TYPE_CHECKING:
    from fedsim.seeds import Streams

Name = Literal[
    "AdjustContrast",
    "ClipIntensityPercentiles",
    "GaussianSharpen",
    "GaussianSmooth",
    "GibbsNoise",
    "HistogramNormalize",
    "KSpaceSpikeNoise",
    "MedianSmooth",
    "SavitzkyGolaySmooth",
    "ScaleIntensity",
    "ScaleIntensityFixedMean",
    "ScaleIntensityRange",
    "ScaleIntensityRangePercentiles",
    "ShiftIntensity",
    "RandAdjustContrast",
    "RandBiasField",
    "RandCoarseDropout",
    "RandGaussianNoise",
    "RandGaussianSharpen",
    "RandGaussianSmooth",
    "RandGibbsNoise",
    "RandHistogramShift",
    "RandKSpaceSpikeNoise",
    "RandRicianNoise",
    "RandScaleIntensity",
    "RandScaleIntensityFixedMean",
    "RandShiftIntensity",
    "RandSimulateLowResolution",
]
"""Classes of `monai.transforms` that change intensities and keep the shape."""

SHARP_PIXELS = 0.05
MAX_RINGING = 0.9  # at 1 nothing is left of an image
IN_RANGE = {"HistogramNormalize": {"min": 0, "max": 1}}
"""Options that make a transform keep the range 0 to 1, unless others are given."""


class Transform(Part):
    """One of MONAI's intensity transforms."""

    name: Name = Field(description="class of monai.transforms")
    options: dict[str, Any] = Field(
        default_factory=dict, description="its keyword arguments; Rand* ones have prob 0.1"
    )
    fixed: bool = Field(
        default=False, description="Rand* ones: drawn once per site instead of once per image"
    )


class MonaiTransforms(Appearance):
    """Contrast, blur, ringing, bias field and Rician noise of one acquisition per site.

    What is drawn for a site: AdjustContrast, GaussianSmooth, GibbsNoise, a fixed RandBiasField and
    RandRicianNoise anew for every image. Images are scaled to 0..1 before, and clipped to it after
    each transform.

    Args:
        kind: "monai".
        severity: 0 (images unchanged) to 2, or a preset: mild 0.2, moderate 0.4, severe 0.7.
        sites: site -> list of transforms in their order, in place of those drawn; each has a `name`
            in `monai.transforms`, its `options`, and `fixed` if drawn once per site, not per image.
    """

    kind: Literal["monai"] = "monai"
    sites: dict[str, tuple[Transform, ...]] = Field(default_factory=dict)

    def named_sites(self) -> tuple[str, ...]:
        """Return the names of the sites with transforms of their own."""
        return tuple(self.sites)

    def describe(self, site: int, name: str, streams: Streams) -> dict[str, Any]:
        """Return the transforms of a site for the run record.

        Raises:
            DataError: if a transform that the scenario gives does not take its options.
        """
        for given in self.sites.get(name, ()):
            _build(given)
        return {"transforms": [t.model_dump(mode="json") for t in self._of(site, name, streams)]}

    def apply(
        self,
        images: NDArray[np.uint8],
        site: int,
        name: str,
        indices: NDArray[np.int64],
        streams: Streams,
    ) -> NDArray[np.uint8]:
        """Return the images as this site's scanner would have taken them; see `Appearance`.

        Raises:
            DataError: if a transform does not take its options, or fails on an image.
        """
        transforms = self._of(site, name, streams)
        if not transforms:
            return images.copy()
        result = np.empty_like(images)
        with _plain_arrays():
            built = [_build(transform) for transform in transforms]
            for place, (image, index) in enumerate(zip(images, indices.tolist(), strict=True)):
                taken = image.astype(np.float32) / 255
                for number, (transform, one) in enumerate(zip(transforms, built, strict=True)):
                    keys = {"step": number} if transform.fixed else {"step": number, "index": index}
                    seed = streams.key("monai_transforms", site=site, **keys) % 2**32
                    taken = _applied(transform, one, seed, taken)
                result[place] = np.clip(taken, 0, 1) * 255 + 0.5
        return result

    def _of(self, site: int, name: str, streams: Streams) -> tuple[Transform, ...]:
        if name in self.sites:
            return self.sites[name]
        if self.level == 0:
            return ()
        return _drawn(self.level, streams.numpy("monai_acquisition", site=site))


def _drawn(level: float, rng: np.random.Generator) -> tuple[Transform, ...]:
    """Draw one acquisition.

    At level 1, the logarithm of gamma has standard deviation 0.45; the blur is up to 1.1 pixels,
    ringing up to 0.9, coefficients of the bias field up to 0.4 and noise up to 0.08 of the range.
    """
    gamma = float(np.exp(level * rng.normal(0, 0.45)))
    sigma = float(level * rng.uniform(0, 1.1))
    ringing = min(MAX_RINGING, float(level * rng.uniform(0, 0.9)))
    field = float(level * rng.uniform(0.05, 0.4))
    noise = float(level * rng.uniform(0, 0.08))
    blurred = [Transform(name="GaussianSmooth", options={"sigma": sigma})]
    bias = {"prob": 1.0, "degree": 2, "coeff_range": [-field, field]}
    return (
        Transform(name="AdjustContrast", options={"gamma": gamma}),
        *(blurred if sigma > SHARP_PIXELS else ()),
        Transform(name="GibbsNoise", options={"alpha": ringing}),
        Transform(name="RandBiasField", options=bias, fixed=True),
        Transform(name="RandRicianNoise", options={"prob": 1.0, "std": noise, "sample_std": False}),
    )


@contextmanager
def _plain_arrays() -> Iterator[None]:
    """Let MONAI work without metadata, and put its setting back."""
    import monai.data

    data: Any = monai.data
    before = data.get_track_meta()
    data.set_track_meta(False)
    try:
        yield
    finally:
        data.set_track_meta(before)


def _build(transform: Transform) -> Any:
    import monai.transforms

    options = IN_RANGE.get(transform.name, {}) | transform.options
    try:
        return getattr(monai.transforms, transform.name)(**options)
    except Exception as error:  # whatever MONAI says of the options
        raise DataError(
            f"population.appearance: {transform.name} does not take {transform.options}: {error}"
        ) from error


def _applied(
    transform: Transform, one: Any, seed: int, image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the image, (channel, height, width), after one transform."""
    if hasattr(one, "set_random_state"):
        one.set_random_state(seed=seed)
    try:
        found = np.asarray(one(image), np.float32)
    except Exception as error:  # whatever MONAI says of the image
        raise DataError(
            f"population.appearance: {transform.name} with {transform.options} fails on an image "
            f"of {image.shape}: {error}"
        ) from error
    if found.shape != image.shape or not np.isfinite(found).all():
        raise DataError(
            f"population.appearance: {transform.name} with {transform.options} does not keep the "
            "shape of an image, or gives values that are not finite"
        )
    return np.clip(found, 0, 1)
