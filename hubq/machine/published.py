"""GPUs as their makers describe them: to plan for a machine that is elsewhere.

Of what a maker names, dense products in 16 bits with sums in 32 and the bandwidth of the memory, a
program reaches a part.
"""

from collections.abc import Mapping
from typing import NamedTuple

from hubq.errors import UserError, did_you_mean
from hubq.machine.rates import Rates

# What is reached of the published figures by large products, by attention and by what goes through
# memory; and of TF32's rate, which is half of that in 16 bits, by XᵀX.
PRODUCTS, ATTENTION, GRAM, MEMORY = 0.7, 0.35, 0.35, 0.8
FILES = 1e9  # bytes a second: of a good disk, written and hashed


class Published(NamedTuple):
    """A GPU by its data sheet."""

    title: str
    memory: float  # bytes
    products: float  # operations a second in bfloat16 (float16 where it lacks that), dense
    plain: float  # operations a second in float32 without tensor cores
    bandwidth: float  # bytes a second of its memory
    host: float  # bytes a second from the host, one way
    source: str


GPUS: Mapping[str, Published] = {
    "a100": Published(
        "NVIDIA A100 SXM 80 GB", 80e9, 312e12, 19.5e12, 2.039e12, 32e9, "NVIDIA A100 data sheet"
    ),
    "a100-40gb": Published(
        "NVIDIA A100 SXM 40 GB", 40e9, 312e12, 19.5e12, 1.555e12, 32e9, "NVIDIA A100 data sheet"
    ),
    "h100": Published(
        "NVIDIA H100 SXM", 80e9, 989e12, 67e12, 3.35e12, 64e9, "NVIDIA H100 data sheet"
    ),
    "h200": Published(
        "NVIDIA H200 SXM", 141e9, 989e12, 67e12, 4.8e12, 64e9, "NVIDIA H200 data sheet"
    ),
    "l4": Published("NVIDIA L4", 24e9, 121e12, 30.3e12, 300e9, 32e9, "NVIDIA L4 data sheet"),
    "l40s": Published(
        "NVIDIA L40S", 48e9, 362e12, 91.6e12, 864e9, 32e9, "NVIDIA L40S data sheet"
    ),
    "3090": Published(
        "NVIDIA GeForce RTX 3090", 24e9, 71e12, 35.6e12, 936e9, 32e9,
        "NVIDIA Ampere GA102 white paper",
    ),
    "4090": Published(
        "NVIDIA GeForce RTX 4090", 24e9, 165.2e12, 82.6e12, 1.008e12, 32e9,
        "NVIDIA Ada GPU architecture white paper",
    ),
    "5090": Published(
        "NVIDIA GeForce RTX 5090", 32e9, 209.5e12, 104.8e12, 1.792e12, 64e9,
        "NVIDIA RTX Blackwell architecture white paper",
    ),
    "mi300x": Published(
        "AMD Instinct MI300X", 192e9, 1307e12, 163.4e12, 5.3e12, 64e9, "AMD MI300X data sheet"
    ),
}  # fmt: skip


def published(name: str) -> Published:
    """Return a GPU of the table; raise UserError for another."""
    found = GPUS.get(name.lower().removeprefix("rtx").strip(" -_"))
    if found is None:
        raise UserError(f"no published figures for {name}; {did_you_mean(name.lower(), GPUS)}")
    return found


def rates_from(gpu: Published) -> Rates:
    """Return about what a GPU does in a second."""
    products = {name: PRODUCTS * gpu.products for name in ("bfloat16", "float16")}
    attention = {name: ATTENTION * gpu.products for name in ("bfloat16", "float16")}
    return Rates(
        device=f"{gpu.title}, by {gpu.source}",
        products={**products, "float32": PRODUCTS * gpu.plain},
        attention={**attention, "float32": ATTENTION * gpu.plain},
        gram=GRAM * gpu.products,
        passed=MEMORY * gpu.bandwidth,
        files=FILES,
        transferred=MEMORY * gpu.host,
    )
