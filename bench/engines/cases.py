"""Which models engines are given: one of each format, width and grouping that hubq writes."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quantized_folder import Choice, write

from hubq.formats import format_named
from hubq.records.engine_tests import Layout
from hubq.tensors import PER_CHANNEL, Grid


@dataclass(frozen=True)
class Case:
    """One model folder."""

    form: str
    linears: Grid | None  # None: 16-bit weights
    activation_bits: int | None = None

    @property
    def layout(self) -> Layout:
        """How its linears lie."""
        if self.linears is None:
            return Layout(format=self.form, bits=16)
        return Layout(
            format=self.form,
            bits=self.linears.bits,
            group_size=self.linears.group_size,
            symmetric=self.linears.symmetric,
            activation_bits=self.activation_bits,
        )

    def write(self, base: Path, folder: Path) -> Path:
        """Write the model as hubq would; return its folder."""
        if self.linears is None:
            return base
        choice = Choice(format_named(self.form), self.linears, None, self.activation_bits)
        shutil.rmtree(write(base, folder, choice))
        return folder


def cases() -> Iterator[Case]:
    """Yield the cases, the commonest first."""
    yield Case("dense", None)
    for group in (32, 64, 128, PER_CHANNEL):
        yield Case("compressed-tensors", symmetric(4, group))
        yield Case("compressed-tensors", Grid(4, group))
    for bits in (8, 3, 2):
        yield Case("compressed-tensors", symmetric(bits, 64))
        yield Case("compressed-tensors", Grid(bits, 64))
    yield Case("compressed-tensors", symmetric(8, PER_CHANNEL))
    for bits in (8, 6, 4):  # SmoothQuant's
        yield Case("compressed-tensors", symmetric(bits, PER_CHANNEL), bits)
    for group in (64, 128, PER_CHANNEL):
        yield Case("gptq", symmetric(4, group))
    for bits in (8, 3, 2):
        yield Case("gptq", symmetric(bits, 64))
    for group in (32, 64, 128):
        yield Case("awq", Grid(4, group))


def symmetric(bits: int, group: int) -> Grid:
    """Return a symmetric grid."""
    return Grid(bits, group, symmetric=True)
