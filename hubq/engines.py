"""Which programs read a format, and what they need: for the card's snippets and for doctor."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Readers:
    """The readers of one format. The bits are those that an engine has kernels for.

    Unclear are those that it has kernels for, but by its sources may read in another layout.
    """

    packages: tuple[str, ...]  # that transformers needs besides itself, as requirements
    vllm: frozenset[int] = frozenset()
    sglang: frozenset[int] = frozenset()
    unclear_in_vllm: frozenset[int] = frozenset()
    extra: str | None = None  # hubq's extra that brings the packages


READERS = {
    # Before 0.18 the library reads widths that don't divide 32 in another layout, and vLLM 0.33 is
    # bound to 0.17.
    "compressed-tensors": Readers(
        ("compressed-tensors>=0.18",),
        vllm=frozenset({2, 4, 8}),
        sglang=frozenset({4, 8}),
        unclear_in_vllm=frozenset({3, 5, 6, 7}),
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


def engines(form: str, bits: float, activation_bits: int | None = None) -> list[str]:
    """List the serving engines that load a format at so many bits, by their sources.

    With rounded activations only integers of 8 bits on both sides have kernels.
    """
    if activation_bits is not None and (bits, activation_bits) != (8, 8):
        return []
    if form == "dense":
        return ["vLLM", "SGLang"]  # for them it is a 16-bit model
    readers = readers_of(form)
    serving = {"vLLM": readers.vllm, "SGLang": readers.sglang}
    return [name for name, widths in serving.items() if bits in widths]
