"""Rules about the settings of gptq and compressed-tensors with which some engine fails."""

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from hubq.formats.compressed_tensors import LAYOUT_VERSION
from hubq.formats.foreign.gptq import VERSION_2
from hubq.sources.auxiliary_files import json_bytes
from hubq.stages.lint.findings import TRANSFORMERS, VLLM, Found
from hubq.stages.lint.release import CONFIG, Release, integer_bits
from hubq.tensors import PER_CHANNEL, packing

CONVERT = "convert it (hubq convert MODEL --to compressed-tensors keeps the integers)"
FROM_16_BITS = "quantize its 16-bit base again"


def gptq_activation_order(release: Release) -> Iterator[Found]:
    """GPTQ files with groups in activation order (desc_act), which vLLM has removed."""
    if (
        release.layout == "gptq"
        and release.quantization.get("desc_act") is True
        and release.number("group_size") != PER_CHANNEL
    ):
        yield Found(
            CONFIG,
            "desc_act: true with groups: vLLM raises ValueError (no longer supported)",
            "hubq convert MODEL --to hubq keeps the integers, --to dense loads everywhere; or "
            "quantize again with desc_act: false",
        )


def gptq_asymmetric(release: Release) -> Iterator[Found]:
    """Asymmetric GPTQ files (sym: false), for which vLLM and SGLang have no kernel."""
    if release.layout == "gptq" and release.quantization.get("sym") is False:
        way_out = f"{CONVERT}, or quantize again with sym: true"
        yield Found(CONFIG, "sym: false: vLLM and SGLang raise ValueError", way_out)


def gptq_version_2(release: Release) -> Iterator[Found]:
    """GPTQ files of version 2, whose zeros are stored otherwise than llama.cpp reads them."""
    said = release.quantization
    named = (said.get("checkpoint_format"), said.get("format"))
    if release.layout == "gptq" and VERSION_2 in named:
        yield Found(CONFIG, f"llama.cpp does not read checkpoint_format: {VERSION_2}", CONVERT)


def column_order_dropped(release: Release) -> Iterator[Found]:
    """compressed-tensors in activation order (weight_g_idx), which nobody reads any more."""
    found = [name for name, parts in release.modules.items() if "weight_g_idx" in parts]
    if found and release.layout == "compressed-tensors":
        yield Found(
            found[0],
            f"weight_g_idx in {len(found)} modules: the columns' order is ignored, and the answers "
            "are garbage",
            "hubq convert MODEL --to hubq keeps the integers, --to dense loads everywhere",
        )


def asymmetric_packed(release: Release) -> Iterator[Found]:
    """Asymmetric packed compressed-tensors, which transformers loads with dequantize alone."""
    said = release.quantization
    if not _is_asymmetric(release) or said.get("dequantize") is True:
        return
    if said.get("run_compressed") is False:
        return
    yield Found(
        CONFIG,
        "symmetric: false: transformers stops at the size of weight_zero_point",
        'write "dequantize": true into the quantization_config',
        with_settings(release, dequantize=True),
    )


def _is_asymmetric(release: Release) -> bool:
    """Tell whether packed weights have zeros."""
    return release.layout == "compressed-tensors" and any(
        isinstance(weights := group.get("weights"), Mapping)
        and weights.get("symmetric") is False
        and integer_bits(weights) is not None
        and "int-quantized" not in (group.get("format"), release.quantization.get("format"))
        for group in release.groups()
    )


def with_settings(release: Release, **changes: object) -> Mapping[str, bytes] | None:
    """Return config.json with other settings of the quantization; None where it has none."""
    if not isinstance(release.config.get("quantization_config"), Mapping):
        return None
    said = {**release.quantization, **changes}
    return {CONFIG: json_bytes({**release.config, "quantization_config": said})}


def asymmetric_schemes(release: Release) -> Iterator[Found]:
    """Asymmetric compressed-tensors of several schemes: transformers takes the first for all."""
    if _is_asymmetric(release) and len(list(release.groups())) > 1:
        yield Found(
            CONFIG,
            "several config groups with symmetric: false: transformers dequantizes all modules by "
            "the first, and the answers are garbage",
            f"{FROM_16_BITS} with one scheme, or with symmetric: true",
        )


def transforms_ignored(release: Release) -> Iterator[Found]:
    """Online transforms (transform_config), which transformers ignores."""
    said = release.quantization.get("transform_config")
    if release.layout == "compressed-tensors" and isinstance(said, Mapping) and said:
        yield Found(
            CONFIG,
            "transform_config: transformers and SGLang leave the rotations out, and answer garbage",
            "serve it with vLLM (tensor parallel 1), or fold the transforms into the weights",
        )


def order_without_groups(release: Release) -> Iterator[Found]:
    """actorder written for whole rows, at which vLLM stops."""
    if release.layout != "compressed-tensors":
        return
    if odd := [each for each in release.groups() if _has_needless_order(each)]:
        groups = release.quantization["config_groups"]
        changed = {name: _without_order(each) for name, each in groups.items()}
        yield Found(
            CONFIG,
            f"actorder: {str(odd[0]['weights']['actorder'])[:20]} without groups: vLLM refuses it",
            "set actorder to null",
            with_settings(release, config_groups=changed),
        )


def _has_needless_order(group: Mapping[str, Any]) -> bool:
    weights = group.get("weights")
    return (
        isinstance(weights, Mapping)
        and weights.get("strategy") in ("channel", "tensor")
        and weights.get("actorder") is not None
    )


def _without_order(group: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(group, Mapping) or not _has_needless_order(group):
        return group
    return {**group, "weights": {**group["weights"], "actorder": None}}


def old_packing(release: Release) -> Iterator[Found]:
    """3, 5, 6 or 7 bits in the layout of compressed-tensors before 0.18, or said to be."""
    if release.layout != "compressed-tensors":
        return
    for module, parts in release.modules.items():
        bits, columns = _odd_width(release, module)
        packed = parts.get("weight_packed")
        if bits is None or columns is None or packed is None or len(packed.shape) != 2:
            continue
        dense, padded = packing.words(columns, bits), -(-columns // (packing.WORD_BITS // bits))
        if packed.shape[1] == padded != dense:
            yield Found(
                module,
                f"{bits} bits in padded words, as compressed-tensors wrote them before 0.18: later "
                "versions and vLLM stop at the shape",
                f"{CONVERT}, or pin compressed-tensors<0.18",
                engines=(TRANSFORMERS, VLLM),
            )
            return
        if packed.shape[1] == dense and _is_older(release.quantization.get("version")):
            yield Found(
                CONFIG,
                f"version {release.quantization['version']} is that of another layout of {bits} "
                "bits than the files have",
                f"set version to {LAYOUT_VERSION}",
                with_settings(release, version=LAYOUT_VERSION),
                engines=(),
            )
            return


def _odd_width(release: Release, module: str) -> tuple[int | None, int | None]:
    """Return bits that don't divide a word, and the inputs of a module."""
    weights = release.weights_of(module)
    bits, size = integer_bits(weights), weights.get("group_size")
    if bits not in (3, 5, 6, 7):
        return None, None
    scale = release.modules[module].get("weight_scale")
    if type(size) is int and size > 0 and scale is not None and len(scale.shape) == 2:
        return bits, size * scale.shape[1]
    return bits, release.inputs(module)


def _is_older(version: object) -> bool:
    try:
        return Version(str(version)) < Version(LAYOUT_VERSION)
    except InvalidVersion:
        return False
