"""The cards that are compiled for: what XLA asks of a device, and rates to estimate with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Rates:
    """Rates that large kernels usually reach: TFLOP/s, and TB/s of memory.

    ``half`` are products in bfloat16 or float16, ``fused`` the fused attention, ``single`` float32;
    ``launch`` is the least time of a kernel in seconds.
    """

    half: float
    fused: float
    single: float
    bandwidth: float
    launch: float = 2e-6


@dataclass(frozen=True)
class Card:
    """A device model.

    ``dtype`` is what samjax chooses there by itself; ``fused_width`` the widest head of the fused
    attention that JAX gives to cuDNN there, among those that samjax asks for (0: none);
    ``memory`` in bytes; ``peak`` the nominal dense half-precision TFLOP/s.
    """

    title: str
    platform: Literal["cuda", "tpu"]
    dtype: str
    fused_width: int
    memory: int
    peak: float
    rates: Rates
    capability: tuple[int, int] = (0, 0)
    topology: str = "1x1x1"
    description: str = ""

    @property
    def is_gpu(self) -> bool:
        """Whether it is an NVIDIA GPU."""
        return self.platform == "cuda"


def _nvidia(
    title: str,
    capability: tuple[int, int],
    *,
    cores: int,
    shared: tuple[int, int],
    cache: int,
    memory: int,
    bandwidth: int,
    threads: int,
    blocks: int,
    clocks: tuple[float, float],
    fpus: int,
    accelerated: bool = False,
    **card: Any,
) -> Card:
    """A GPU from the numbers of its data sheet and of CUDA's table of compute capabilities.

    ``shared`` are bytes of shared memory for a multiprocessor and for a block, ``clocks`` those of
    processor and memory in GHz.
    """
    major, minor = capability
    extension = "ACCELERATED_FEATURES" if accelerated else "NONE"
    description = f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: {shared[0]}
  shared_memory_per_block_optin: {shared[1]} reserved_shared_memory_per_block: 1024
  threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: {bandwidth} l2_cache_size: {cache} device_memory_size: {memory}
  clock_rate_ghz: {clocks[0]} mem_clock_ghz: {clocks[1]} max_blocks_per_multiprocessor: {blocks}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}
  device_vendor: "NVIDIA Corporation" device_address_bits: 64 name: "{title}"
  platform_version: "Compute Capability {major}.{minor}" driver_version: "13.0.0"
  runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0" dnn_version: "9.24.0"
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 24 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{title}"
"""
    return Card(
        title, "cuda", memory=memory, capability=capability, description=description, **card
    )


CARDS: dict[str, Card] = {
    "t4": _nvidia(
        "Tesla T4", (7, 5), cores=40, shared=(65536, 65536), cache=4 << 20,
        memory=15_843_721_216, bandwidth=320_064_000_000, threads=1024, blocks=16,
        clocks=(1.59, 5.001), fpus=64, dtype="float16", fused_width=0, peak=65,
        rates=Rates(30, 1, 6, 0.26, 4e-6),
    ),
    "a100": _nvidia(
        "NVIDIA A100-SXM4-80GB", (8, 0), cores=108, shared=(167936, 166912), cache=40 << 20,
        memory=85_100_068_864, bandwidth=2_039_040_000_000, threads=2048, blocks=32,
        clocks=(1.41, 1.593), fpus=64, dtype="bfloat16", fused_width=112, peak=312,
        rates=Rates(230, 170, 17, 1.65, 2.5e-6),
    ),
    "l4": _nvidia(
        "NVIDIA L4", (8, 9), cores=58, shared=(102400, 101376), cache=48 << 20,
        memory=23_580_639_232, bandwidth=300_096_000_000, threads=1536, blocks=24,
        clocks=(2.04, 6.251), fpus=128, dtype="bfloat16", fused_width=112, peak=121,
        rates=Rates(80, 65, 18, 0.25),
    ),
    "h100": _nvidia(
        "NVIDIA H100 80GB HBM3", (9, 0), cores=132, shared=(233472, 232448), cache=50 << 20,
        memory=84_942_979_072, bandwidth=3_352_320_000_000, threads=2048, blocks=32,
        clocks=(1.98, 2.619), fpus=128, accelerated=True, dtype="bfloat16", fused_width=208,
        peak=989, rates=Rates(650, 500, 55, 2.8),
    ),
    "b200": _nvidia(
        "NVIDIA B200", (10, 0), cores=148, shared=(233472, 232448), cache=126 << 20,
        memory=191_510_000_000, bandwidth=7_672_000_000_000, threads=2048, blocks=32,
        clocks=(1.965, 3.996), fpus=128, accelerated=True, dtype="bfloat16", fused_width=208,
        peak=2250, rates=Rates(1400, 1000, 60, 6.4),
    ),
    "v5e": Card(
        "TPU v5e", "tpu", "bfloat16", 0, 17_179_869_184, 197,
        Rates(150, 1, 25, 0.7), topology="v5e:2x2",
    ),
}  # fmt: skip
