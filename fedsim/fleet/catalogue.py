"""Profiles of common devices, from what their vendors publish.

Peaks are boost-clock maxima for dense products with float32 accumulation; where a data sheet gives
the sparse number alone, half of it stands here. Real training reaches a part of them, which is
what `utilisation` is for.
"""

from __future__ import annotations

from typing import Literal

from fedsim.fleet.profile import Profile

ProfileName = Literal[
    "h100-sxm",
    "a100-sxm",
    "l4",
    "v100-sxm",
    "t4",
    "rtx-4090",
    "rtx-3090",
    "jetson-orin",
    "cpu-16c",
]

CATALOGUE: dict[ProfileName, Profile] = {
    "h100-sxm": Profile(
        fp32_tflops=67,
        bf16_tflops=989.4,
        fp16_tflops=989.4,
        memory_gb=80,
        memory_gb_per_s=3350,
        source="NVIDIA H100 Tensor Core GPU data sheet, SXM5 80 GB (tensor numbers halved, as it "
        "gives sparse ones): https://www.nvidia.com/en-us/data-center/h100/",
    ),
    "a100-sxm": Profile(
        fp32_tflops=19.5,
        bf16_tflops=312,
        fp16_tflops=312,
        memory_gb=80,
        memory_gb_per_s=2039,
        source="NVIDIA A100 Tensor Core GPU data sheet, SXM4 80 GB: "
        "https://www.nvidia.com/en-us/data-center/a100/",
    ),
    "l4": Profile(
        fp32_tflops=30.3,
        bf16_tflops=121,
        fp16_tflops=121,
        memory_gb=24,
        memory_gb_per_s=300,
        source="NVIDIA L4 Tensor Core GPU data sheet (tensor numbers halved, as it gives sparse "
        "ones): https://www.nvidia.com/en-us/data-center/l4/",
    ),
    "v100-sxm": Profile(
        fp32_tflops=15.7,
        fp16_tflops=125,
        memory_gb=32,
        memory_gb_per_s=900,
        source="NVIDIA V100 Tensor Core GPU data sheet, SXM2 32 GB: "
        "https://www.nvidia.com/en-us/data-center/v100/",
    ),
    "t4": Profile(
        fp32_tflops=8.1,
        fp16_tflops=65,
        memory_gb=16,
        memory_gb_per_s=300,
        source="NVIDIA T4 Tensor Core GPU data sheet: "
        "https://www.nvidia.com/en-us/data-center/tesla-t4/",
    ),
    "rtx-4090": Profile(
        fp32_tflops=82.6,
        bf16_tflops=165.2,
        fp16_tflops=165.2,
        memory_gb=24,
        memory_gb_per_s=1008,
        source="NVIDIA Ada GPU Architecture white paper, appendix A: "
        "https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4090/",
    ),
    "rtx-3090": Profile(
        fp32_tflops=35.6,
        bf16_tflops=71,
        fp16_tflops=71,
        memory_gb=24,
        memory_gb_per_s=936,
        source="NVIDIA Ampere GA102 GPU Architecture white paper, appendix A: "
        "https://www.nvidia.com/en-us/geforce/graphics-cards/30-series/rtx-3090-3090ti/",
    ),
    "jetson-orin": Profile(
        fp32_tflops=5.3,
        bf16_tflops=42.5,
        fp16_tflops=42.5,
        memory_gb=64,
        memory_gb_per_s=204.8,
        source="NVIDIA Jetson AGX Orin Series technical brief, 64 GB at full power (tensor "
        "numbers are a quarter of its 170 sparse INT8 TOPS; memory shared with the CPU): "
        "https://www.nvidia.com/en-us/autonomous-machines/embedded-systems/jetson-orin/",
    ),
    "cpu-16c": Profile(
        fp32_tflops=1.5,
        memory_gb=128,
        memory_gb_per_s=204.8,
        source="AMD EPYC 7313, product page (16 cores at 3.0 GHz, 8 channels of DDR4-3200) times "
        "32 float32 operations per core and cycle (two 256-bit fused multiply-adds, AMD Zen 3 "
        "optimisation guide); 128 GB assumed: https://www.amd.com/en/products/cpu/amd-epyc-7313",
    ),
}
"""Name in a scenario -> profile."""
