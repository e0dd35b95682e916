"""Rules about what a release says of its quantization: which engines have a reader for that."""

from collections.abc import Iterator, Mapping

from hubq.errors import UserError
from hubq.formats.foreign.metadata import BESIDE, require_agreement, require_types
from hubq.machine.engines import FLOATS, READERS, engines
from hubq.sources.source import AUTO_ROUND
from hubq.stages.lint.findings import LLAMA_CPP, SGLANG, TRANSFORMERS, VLLM, Found
from hubq.stages.lint.release import CONFIG, Release, float_kind, integer_bits

# The methods whose weights transformers 5.23 has a reader for (its quantizers/auto.py).
KNOWN = frozenset(
    {
        *("aqlm", "awq", "bitnet", "bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"),
        *("compressed-tensors", "eetq", "fbgemm_fp8", "fouroversix", "fp8", "fp_quant", "gguf"),
        *("gptq", "higgs", "hqq", "metal", "mxfp4", "mxfp8", "quanto", "quark", "sinq", "spqr"),
        *("torchao", "vptq", "gemma", "nvfp4", *AUTO_ROUND),
    }
)
OWN = "hubq"  # the format whose repos carry their reader
BY_OTHERS = ("modelopt", "modelopt_fp4", "petit_nvfp4")  # that vLLM and SGLang know all the same
BROKEN: Mapping[str, str] = {
    "hqq": "transformers 5 can't load hqq files: its reader was not ported",
    "quanto": "quanto models can't be saved so that transformers loads them",
}
UNREAD: Mapping[str, frozenset[str]] = {
    VLLM: frozenset({"bitsandbytes", "hqq", "quanto", "eetq", OWN}),
    SGLANG: frozenset({"torchao", "hqq", "quanto", "eetq", OWN}),
    LLAMA_CPP: frozenset(
        {"awq", "bitsandbytes", "torchao", "quark", "hqq", "quanto", "eetq", OWN, *AUTO_ROUND}
    ),
}
# The methods of which it is known whether these engines have a reader; None: plain weights.
JUDGED = frozenset(
    {"gptq", "awq", "compressed-tensors", "fp8", "torchao", "quark", "bitsandbytes", None, OWN}
    | {"hqq", "quanto", "eetq", *BY_OTHERS, *AUTO_ROUND}
)
FROM_16_BITS = "quantize its 16-bit base again"


def odd_settings(release: Release) -> Iterator[Found]:
    """The quantization's settings are of other types than their writers use, or contradict."""
    try:
        require_types(CONFIG, release.quantization)
        for path, method in BESIDE.items():
            if path in release.places and release.config.get("quantization_config"):
                require_agreement(CONFIG, release.quantization, method, release.object(path))
    except UserError as error:
        yield Found(CONFIG, str(error), "correct what is wrong of the two")


def unknown_quant_method(release: Release) -> Iterator[Found]:
    """A quant_method that transformers doesn't know: it warns and makes random weights."""
    method = release.method
    if method is None or method in KNOWN or method == OWN:
        return
    others = () if method in BY_OTHERS else (VLLM, SGLANG, LLAMA_CPP)
    yield Found(
        CONFIG,
        f"quant_method is {method[:60] or 'not named'!s}: transformers only warns of it, leaves "
        "the weights out and answers with random ones",
        f"correct quant_method if it is misspelt, or {FROM_16_BITS}",
        engines=(TRANSFORMERS, *others),
    )


def method_without_reader(release: Release) -> Iterator[Found]:
    """A method whose files transformers 5 can't load any more."""
    if what := BROKEN.get(release.method or ""):
        yield Found(CONFIG, what, FROM_16_BITS)


def format_not_read(release: Release) -> Iterator[Found]:
    """An engine has no reader for the format."""
    for engine, methods in UNREAD.items():
        if release.method in methods:
            yield Found(
                CONFIG,
                f"{engine} has no reader for {release.method}",
                f"for {engine} use another format",
                engines=(engine,),
            )


def no_kernel(release: Release) -> Iterator[Found]:
    """An engine reads the format, and has no kernel for this width."""
    form = release.layout
    if form not in READERS or release.method in UNREAD[VLLM]:
        return
    for bits, inputs in _widths(release):
        lacking = tuple(e for e in (VLLM, SGLANG) if e not in engines(form, bits, inputs))
        if form == "gptq" and bits == 3:
            lacking += (LLAMA_CPP,)
        if lacking:
            rounded = f" with inputs of {inputs}" if inputs else ""
            yield Found(
                CONFIG,
                f"{form} with {bits} bits{rounded} has no kernel in {' and '.join(lacking)}",
                "for these engines use 4 or 8 bits",
                engines=lacking,
            )


def no_kernel_for_floats(release: Release) -> Iterator[Found]:
    """An engine reads compressed-tensors, and has no kernel for these floats or their inputs."""
    if release.layout != "compressed-tensors":
        return
    for kind, inputs in _floats(release):
        lacking = tuple(e for e in (VLLM, SGLANG) if (kind, inputs) not in FLOATS[e])
        if kind == "mxfp4":
            lacking += (LLAMA_CPP,)
        if lacking:
            rounded = f" with inputs of {inputs} bits" if inputs else ""
            yield Found(
                CONFIG,
                f"{kind}{rounded} has no kernel in {' and '.join(lacking)}",
                "for these engines use FP8 or NVFP4, or leave inputs in 16 bits",
                engines=lacking,
            )


def _floats(release: Release) -> Iterator[tuple[str, int | None]]:
    """Yield the kinds of floats, each with the bits of rounded inputs, once."""
    pairs = (
        (float_kind(group.get("weights")), _float_bits(group.get("input_activations")))
        for group in release.groups()
    )
    yield from dict.fromkeys((kind, inputs) for kind, inputs in pairs if kind is not None)


def _float_bits(arguments: object) -> int | None:
    said = arguments if isinstance(arguments, Mapping) else {}
    bits = said.get("num_bits")
    return bits if type(bits) is int else None


def _widths(release: Release) -> Iterator[tuple[int, int | None]]:
    """Yield the bits of integer weights, and those of rounded inputs, each pair once."""
    if release.layout in ("gptq", "awq"):
        if (bits := release.number("bits")) is not None:
            yield bits, None
        return
    pairs = (
        (integer_bits(group.get("weights")), integer_bits(group.get("input_activations")))
        for group in release.groups()
    )
    yield from dict.fromkeys((bits, inputs) for bits, inputs in pairs if bits is not None)


def several_groups(release: Release) -> Iterator[Found]:
    """More than one config group: llama.cpp's converter takes one."""
    if len(list(release.groups())) > 1:
        yield Found(
            CONFIG,
            "llama.cpp's converter reads compressed-tensors with a single config group",
            "convert it to dense first (hubq convert MODEL --to dense)",
        )
