"""Patient-level privacy: DP-SGD in which all training images of a patient are one unit.

The sampler draws patients, and the gradients of a patient's images are added up before they are
clipped: so a patient moves the sum of a step by C at most, however many images there are of them.
q = B / n_k is the same as for single images, so that the batch size B counts images here as
everywhere: of U_k patients q U_k are expected in a step, which have B images between them.

The sum and not the mean: unclipped it is the gradient of what is minimised without privacy, a mean
over images, up to a constant factor. The mean would count every patient alike, those with one image
as much as those with twenty. The price is that patients with many images are clipped first, and
that gradients are as many times as long as a patient has images: C goes with that number.

The relation is that a blank stands in place of each of a patient's images at the site; how many
they have is public, as the number of images of the site is. A patient whose images are at two sites
is a unit at each of them, and the two epsilons compose.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from fedsim.privacy.dp_sgd import DpSgdMechanism
from fedsim.privacy.units import Unit


class PatientLevel(DpSgdMechanism):
    """DP-SGD in the client: summed and clipped gradients of whole patients, noise in every step."""

    kind: Literal["patient_level"] = "patient_level"

    unit: ClassVar[Unit] = "patient"
