"""Named random streams: every consumer of randomness has a name of its own.

A stream is a function of (seed, purpose, keys) alone, so numbers never depend on who asked first,
on the number of workers or on the engine, and adding a consumer never shifts another's numbers.

>>> streams = Streams(seed=7)
>>> a = streams.numpy("batches", round=3, site=2).integers(100, size=3)
>>> b = Streams(seed=7).numpy("batches", round=3, site=2).integers(100, size=3)
>>> bool((a == b).all())
True
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Streams:
    """All random streams of one run.

    Args:
        seed: the scenario's seed.
    """

    seed: int

    def key(self, purpose: str, **keys: int) -> int:
        """Return the 128-bit integer that seeds the stream `(seed, purpose, **keys)`."""
        name = "/".join([str(self.seed), purpose, *(f"{k}={keys[k]}" for k in sorted(keys))])
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")

    def numpy(self, purpose: str, **keys: int) -> np.random.Generator:
        """Return a fresh numpy generator at the start of the named stream."""
        return np.random.Generator(np.random.PCG64(self.key(purpose, **keys)))

    def torch_apart(self, purpose: str, number: int) -> torch.Generator:
        """Return one of the CPU torch generators of a purpose, no two of which coincide.

        For samples and noise that have to be other ones in every round at every site.

        Args:
            purpose: of all of them.
            number: which one; below 2^32 each has a seed of its own.
        """
        import torch

        return torch.Generator().manual_seed((self.key(purpose) + number) % 2**32)

    def torch(self, purpose: str, **keys: int) -> torch.Generator:
        """Return a fresh CPU torch generator at the start of the named stream.

        Torch's CPU generator keeps 32 bits of a seed, so among a hundred thousand streams two may
        coincide: fine for orders and shifts; what privacy draws is for `torch_apart`.
        """
        import torch

        return torch.Generator().manual_seed(self.key(purpose, **keys) % 2**63)

    @contextmanager
    def torch_default(self, purpose: str, device: str = "cpu", **keys: int) -> Iterator[None]:
        """Put torch's global generators at the start of the named stream, and back afterwards.

        For what takes no generator: initial weights and dropout.

        Args:
            purpose: of the stream.
            device: torch's name of the device that computes.
            keys: of the stream.
        """
        import torch

        gpus = [device] if device.startswith("cuda") else []
        with torch.random.fork_rng(devices=gpus):
            seed = self.key(purpose, **keys) % 2**63
            torch.default_generator.manual_seed(seed)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(seed)
            yield
