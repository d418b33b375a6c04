"""What one device can do."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clients.precision import Precision
from fedsim.plugins import Part

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Profile(Part):
    """Peak numbers of one device, for dense (not sparse) products.

    fp32 is without TF32, because fedsim trains in full float32.

    Args:
        fp32_tflops: 10^12 floating-point operations per second in float32.
        bf16_tflops: the same in bfloat16; leave it out if the device has no units for it.
        fp16_tflops: the same in float16.
        memory_gb: 10^9 bytes of memory.
        memory_gb_per_s: 10^9 bytes that the memory moves in a second.
        source: where the numbers come from.
    """

    fp32_tflops: Positive
    bf16_tflops: Positive | None = None
    fp16_tflops: Positive | None = None
    memory_gb: Positive
    memory_gb_per_s: Positive
    source: str = ""

    @property
    def memory_bytes(self) -> float:
        """Bytes of memory."""
        return 1e9 * self.memory_gb

    @property
    def memory_bytes_per_s(self) -> float:
        """Bytes that the memory moves in a second."""
        return 1e9 * self.memory_gb_per_s

    def supports(self, precision: Precision) -> bool:
        """Return whether there is a peak for this precision."""
        return self._tflops(precision) is not None

    def flops_per_s(self, precision: Precision) -> float:
        """Return the peak, in floating-point operations per second.

        Raises:
            ValueError: if the device has no units for this precision.
        """
        tflops = self._tflops(precision)
        if tflops is None:
            raise ValueError(f"this device has no peak for {precision}")
        return 1e12 * tflops

    def _tflops(self, precision: Precision) -> float | None:
        return {"fp32": self.fp32_tflops, "bf16": self.bf16_tflops, "fp16": self.fp16_tflops}[
            precision
        ]
