"""Which programs read a format, and what they need: for the card's snippets and for doctor."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from hubq.errors import UserError

LOADER = "hubq_loader.py"  # by which a repo in the hubq format is read where hubq is not


@dataclass(frozen=True)
class Readers:
    """The readers of one format. The bits are those that an engine has kernels for."""

    packages: tuple[str, ...]  # that transformers needs besides itself, as requirements
    vllm: frozenset[int] = frozenset()
    sglang: frozenset[int] = frozenset()
    extra: str | None = None  # hubq's extra that brings the packages


READERS = {
    # Before 0.18 the library reads widths that don't divide 32 in another layout. vLLM 0.33 is
    # bound to 0.17, but reads the files by itself, in the dense layout that hubq writes.
    "compressed-tensors": Readers(
        ("compressed-tensors>=0.18",), vllm=frozenset(range(2, 9)), sglang=frozenset({4, 8})
    ),
    "gptq": Readers(
        ("gptqmodel>=1.4.3", "optimum>=1.24"), frozenset({4, 8}), frozenset({4, 8}), extra="gptq"
    ),
    "awq": Readers(("gptqmodel>=1.4.3",), frozenset({4}), frozenset({4}), extra="gptq"),
    "bitsandbytes": Readers(
        ("bitsandbytes>=0.46.1",), sglang=frozenset({4, 8}), extra="bitsandbytes"
    ),
    # vLLM has removed its reader of bitsandbytes. The hubq format has no entry: each repo carries
    # its reader for transformers.
}

# Bits of weights and of rounded activations that an engine has kernels for (vLLM 0.33, its
# _is_wNaM_int; on GPUs without 4-bit integers it computes in more).
ROUNDED: Mapping[str, frozenset[tuple[float, int]]] = {
    "vLLM": frozenset({(8, 8), (4, 4), (4, 8), (3, 8)}),
    "SGLang": frozenset({(8, 8)}),
}

# Floats, and the bits of rounded inputs (None: they stay), that an engine has kernels for: vLLM
# 0.33 and SGLang 0.5.23 by the schemes of their compressed_tensors folders. That of MXFP4 with
# rounded inputs leaves these in 16 bits in vLLM, and SGLang's for MXFP4 is newer.
ElementType = Literal["int", "fp8", "nvfp4", "mxfp4"]  # of weights
FLOATS: Mapping[str, frozenset[tuple[ElementType, int | None]]] = {
    "vLLM": frozenset({("fp8", 8), ("fp8", None), ("nvfp4", 4), ("nvfp4", None), ("mxfp4", None)}),
    "SGLang": frozenset({("fp8", 8), ("fp8", None), ("nvfp4", 4), ("nvfp4", None)}),
}


VLLM_PYTHON = "HUBQ_VLLM_PYTHON"  # the python of an environment that has vLLM


def vllm_python() -> str:
    """Return the python that vLLM runs under; raise UserError where it is not installed."""
    python = os.environ.get(VLLM_PYTHON, "").strip()
    if not python:
        raise UserError(
            f"engine: vllm needs vLLM in an environment of its own, and {VLLM_PYTHON} is not set. "
            "Make one (python -m venv vllm && vllm/bin/pip install vllm) and set it to "
            "vllm/bin/python, or leave engine out to measure with transformers"
        )
    look = "import sys; from importlib.util import find_spec; sys.exit(find_spec('vllm') is None)"
    own = {key: each for key, each in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run([python, "-P", "-c", look], capture_output=True, env=own, check=False)
    except OSError as error:
        raise UserError(f"{VLLM_PYTHON} is {python}, which can't be run: {error}") from error
    if done.returncode != 0:
        raise UserError(
            f"{VLLM_PYTHON} is {python}, which has no vLLM: {python} -m pip install vllm, or "
            "leave engine out to measure with transformers"
        )
    return python


def readers_of(form: str) -> Readers:
    """Return the readers of a format; transformers alone for one that isn't listed."""
    return READERS.get(form, Readers(()))


def missing_packages(form: str) -> list[str]:
    """List the requirements of a format that this installation does not meet."""
    from packaging.requirements import Requirement

    needs = {need: Requirement(need) for need in readers_of(form).packages}
    return [
        need
        for need, requirement in needs.items()
        if (found := installed_version(requirement.name)) is None
        or not requirement.specifier.contains(found, prereleases=True)
    ]


def installed_version(package: str) -> str | None:
    """Return a package's version without importing it; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def engines(
    form: str, bits: float, activation_bits: int | None = None, element_type: ElementType = "int"
) -> list[str]:
    """List the serving engines that load a format at so many bits, by their sources.

    The element type is that of the weights: int, fp8, nvfp4 or mxfp4.
    """
    if form == "compressed-tensors" and element_type != "int":
        return [name for name, pairs in FLOATS.items() if (element_type, activation_bits) in pairs]
    if activation_bits is not None:
        return [name for name, pairs in ROUNDED.items() if (bits, activation_bits) in pairs]
    if form == "dense":
        return ["vLLM", "SGLang"]  # for them it is a 16-bit model
    readers = readers_of(form)
    serving = {"vLLM": readers.vllm, "SGLang": readers.sglang}
    return [name for name, widths in serving.items() if bits in widths]
