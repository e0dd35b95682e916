"""Rules about what a release says of its quantization: which engines have a reader for that."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from hubq.errors import UserError
from hubq.formats.foreign.metadata import BESIDE, require_agreement, require_types
from hubq.records.engine_tests import Layout
from hubq.sources.source import AUTO_ROUND
from hubq.stages.lint.findings import LLAMA_CPP, SGLANG, TRANSFORMERS, VLLM, Found
from hubq.stages.lint.release import CONFIG, HEAD, Release, float_kind, integer_bits
from hubq.stages.lint.serving import OWN, UNREAD, Serving, Stored, serving

# The methods whose weights transformers 5.23 has a reader for (its quantizers/auto.py).
KNOWN = frozenset(
    {
        *("aqlm", "awq", "bitnet", "bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"),
        *("compressed-tensors", "eetq", "fbgemm_fp8", "fouroversix", "fp8", "fp_quant", "gguf"),
        *("gptq", "higgs", "hqq", "metal", "mxfp4", "mxfp8", "quanto", "quark", "sinq", "spqr"),
        *("torchao", "vptq", "gemma", "nvfp4", *AUTO_ROUND),
    }
)
BY_OTHERS = ("modelopt", "modelopt_fp4", "petit_nvfp4")  # that vLLM and SGLang know all the same
BROKEN: Mapping[str, str] = {
    "hqq": "transformers 5 can't load hqq files: its reader was not ported",
    "quanto": "quanto models can't be saved so that transformers loads them",
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
    """An engine reads the format, and has no kernel for this width, or failed with it."""
    lacking = {each: found for each, found in answers(release).items() if found.loads is False}
    said = " and ".join(map(str, layouts(release) or ()))
    for known in dict.fromkeys(found.known for found in lacking.values()):
        engines = tuple(each for each, found in lacking.items() if found.known == known)
        names = " and ".join(engines)
        way_out = f"for {names} use other bits or another format"
        yield Found(CONFIG, f"{said}: in {names} {known}", way_out, engines=engines)


def answers(release: Release) -> dict[str, Serving]:
    """Ask of each engine that reads the format whether it serves it; none: no layout is known."""
    found = layouts(release)
    if not found:
        return {}
    stored = Stored(release.architecture, found, HEAD in release.modules)
    return {
        engine: serving(engine, stored)
        for engine, methods in UNREAD.items()
        if release.method not in methods
    }


def layouts(release: Release) -> tuple[Layout, ...] | None:
    """List how the linears lie; None where that is none of the ways that are tried."""
    if release.method is None:
        return (Layout(format="dense", bits=16),)
    form = release.layout
    if form in ("gptq", "awq"):
        bits = release.number("bits")
        symmetric = release.quantization.get("sym", True) if form == "gptq" else False
        size = release.number("group_size")
        return _checked([dict(format=form, bits=bits, group_size=size, symmetric=symmetric)])
    if form != "compressed-tensors":
        return None
    return _checked([_group(each) for each in release.groups()])


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    """Read one of compressed-tensors' groups."""
    weights = group.get("weights")
    said = weights if isinstance(weights, Mapping) else {}
    whole = said.get("strategy") == "channel"
    inputs = group.get("input_activations")
    if kind := float_kind(weights):
        rounded = inputs.get("num_bits") if isinstance(inputs, Mapping) else None
        floats = {"bits": said["num_bits"], "element_type": kind, "activation_bits": rounded}
        return {"format": "compressed-tensors"} | floats
    return {
        "format": "compressed-tensors",
        "bits": integer_bits(weights),
        "group_size": -1 if whole else said.get("group_size"),
        "symmetric": said.get("symmetric"),
        # Of other numbers than integers: none of the layouts that are tried.
        "activation_bits": (integer_bits(inputs) or 0) if inputs else None,
    }


def _checked(found: list[dict[str, Any]]) -> tuple[Layout, ...] | None:
    """Return layouts; None where a stranger's settings make none."""
    try:
        return tuple(dict.fromkeys(Layout.model_validate(each, strict=True) for each in found))
    except ValidationError:
        return None


def several_groups(release: Release) -> Iterator[Found]:
    """More than one config group: llama.cpp's converter takes one."""
    if len(list(release.groups())) > 1:
        yield Found(
            CONFIG,
            "llama.cpp's converter reads compressed-tensors with a single config group",
            "convert it to dense first (hubq convert MODEL --to dense)",
        )
