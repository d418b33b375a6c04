"""Who is photographed: one body for all images of a patient, with sex and age that show.

>>> sitters = Sitters.alone([np.random.default_rng(0), np.random.default_rng(1)])
>>> sitters.several, sitters.male.shape
(False, (2, 1, 1))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedsim.data.drawing import Floats
from fedsim.seeds import Streams

SEXES = ("f", "m")
AGE_BANDS = ("under 50", "50 to 69", "70 and over")


@dataclass(frozen=True)
class Sitters:
    """The patients of some images, one entry per image.

    Args:
        bodies: a generator at the start of the patient's stream, from which anatomy is drawn.
        male: 1 for men and 0 for women, (image, 1, 1); 0 where nobody has a sex.
        age: 0, 1 or 2, the age band, (image, 1, 1); 0 where nobody has an age.
        several: whether a patient may have several images, which then differ in position.
    """

    bodies: Sequence[Generator]
    male: Floats
    age: Floats
    several: bool

    @classmethod
    def alone(cls, rngs: Sequence[Generator]) -> Sitters:
        """Return sitters with one image each, whose anatomy comes from the image's generator."""
        nothing = np.zeros((len(rngs), 1, 1), np.float32)
        return cls(rngs, nothing, nothing, several=False)


@dataclass(frozen=True)
class Patients:
    """All patients of a set.

    Args:
        sexes: index into SEXES of each patient, (patient,).
        ages: index into AGE_BANDS of each patient, (patient,).
        purpose: of the streams that their bodies come from.
    """

    sexes: NDArray[np.int64]
    ages: NDArray[np.int64]
    purpose: str

    @classmethod
    def draw(cls, num: int, streams: Streams, purpose: str) -> Patients:
        """Draw sex and age of each, all equally frequent and independent of any disease."""
        rng = streams.numpy("synthetic_patients")
        return cls(
            rng.integers(len(SEXES), size=num), rng.integers(len(AGE_BANDS), size=num), purpose
        )

    def sitting(self, whose: NDArray[np.int64], streams: Streams) -> Sitters:
        """Return the sitters of images, given the number of each one's patient."""
        return Sitters(
            [streams.numpy(self.purpose, patient=int(number)) for number in whose],
            self.sexes[whose].astype(np.float32)[:, None, None],
            self.ages[whose].astype(np.float32)[:, None, None],
            several=True,
        )
