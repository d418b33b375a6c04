"""Which device some of the sites run on, and how they are linked to the server."""

from __future__ import annotations

from pydantic import Field, model_validator

from clients.precision import Precision
from fedsim.fleet.catalogue import CATALOGUE, ProfileName
from fedsim.fleet.profile import Positive, Profile
from fedsim.plugins import Part


class DeviceGroup(Part):
    """Sites that run on the same device.

    Args:
        profile: a name of the catalogue, or the device's own numbers.
        share: of the sites that no group names, which are drawn.
        sites: names of the sites, instead of a share.
        uplink_mbps: 10^6 bits per second from the site to the server.
        downlink_mbps: 10^6 bits per second from the server to the site.
        latency_s: seconds that pass before a transfer begins, each way.
        availability: probability that the site is there in a round.
        utilisation: part of the peak that training reaches; an assumption, which large
            convolutional networks may meet and small ones do not.
        jitter: sigma of the log-normal factor on compute time, whose median is 1.
        batch_size: examples per optimiser step at these sites; default: client.batch_size.
        epochs: passes over the training examples at these sites; default: as client says.
        steps: optimiser steps at these sites, instead of epochs.
        precision: of products (autocast); weights and optimiser stay in fp32.
    """

    profile: ProfileName | Profile
    share: float | None = Field(default=None, gt=0, le=1)
    sites: tuple[str, ...] | None = Field(default=None, min_length=1)
    uplink_mbps: Positive = 100.0
    downlink_mbps: Positive = 100.0
    latency_s: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    availability: float = Field(default=1.0, gt=0, le=1)
    utilisation: float = Field(default=0.3, gt=0, le=1)
    jitter: float = Field(default=0.0, ge=0, le=3)
    batch_size: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _one_of_each(self) -> DeviceGroup:
        if (self.share is None) == (self.sites is None):
            raise ValueError("give share or sites: how many sites have this device, or which")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self

    @property
    def name(self) -> str:
        """What tables and figures call the device."""
        return self.profile if isinstance(self.profile, str) else "own profile"

    @property
    def device(self) -> Profile:
        """The numbers of the device."""
        return CATALOGUE[self.profile] if isinstance(self.profile, str) else self.profile
