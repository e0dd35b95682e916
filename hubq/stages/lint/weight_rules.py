"""Rules about the tensors that a release has, by its headers, beside what it says of them."""

import re
from collections.abc import Iterator, Mapping

from hubq.errors import UserError
from hubq.formats.dense import MARK
from hubq.formats.foreign.gptq import settings_of
from hubq.formats.foreign.parts import fits
from hubq.runtime.headers import few
from hubq.sources.architecture import account
from hubq.stages.lint.findings import Found
from hubq.stages.lint.release import CONFIG, FLOATS, HEAD, Parts, Release, integer_bits
from hubq.stages.lint.settings_rules import FROM_16_BITS, with_settings
from hubq.tensors import PER_CHANNEL, packing

# What engines compute as one matrix.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
# The formats that engines fuse layers of, each with the dimension of its parts that inputs fill.
ALONG_INPUTS = {"gptq": 0, "awq": 0, "compressed-tensors": 1, "fp8": 1}
LISTS = {"compressed-tensors": "ignore", "awq": "modules_to_not_convert"}
NAMED_QUANTIZED = re.compile(
    r"(?<![a-z0-9])(gptq|awq|nf4|nvfp4|mxfp4|fp8|int[2348]|w[2348]a\d+|hqq|bnb|[2348]-?bits?)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
SAVE_AGAIN = "save the model again with the names that transformers has"


def unequal_fused_layers(release: Release) -> Iterator[Found]:
    """Layers that engines fuse (q, k and v; gate and up) are quantized unequally."""
    along = ALONG_INPUTS.get(release.layout or "")
    if along is None:
        return
    for prefix, last in _fused(release):
        kinds = {name: _kind(release.modules.get(f"{prefix}{name}", {}), along) for name in last}
        if len(set(kinds.values())) > 1:
            yield Found(
                prefix + last[0],
                f"{', '.join(last)} differ in width, groups or in being quantized at all: vLLM and "
                "SGLang compute them as one matrix, and stop or answer garbage",
                f"{FROM_16_BITS} with one scheme for layers that share their input",
            )


def _fused(release: Release) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the prefix of each set of fused layers, and which of them there are."""
    there = {*release.modules, *release.kept}
    for names in FUSED:
        parents = {each.rpartition(".")[0] for each in there if each.rpartition(".")[2] in names}
        for prefix in sorted(f"{each}." for each in parents):
            found = tuple(name for name in names if f"{prefix}{name}" in there)
            if len(found) > 1:
                yield prefix, found


def _kind(parts: Parts, along: int) -> tuple[tuple[str, str, int], ...]:
    """Say how a module is stored, but for the number of its outputs."""
    return tuple(
        sorted(
            (part, info.dtype, info.shape[along])
            for part, info in parts.items()
            if len(info.shape) == 2 and part != "bias"
        )
    )


def missed_by_ignore_list(release: Release) -> Iterator[Found]:
    """Linears in 16 bits that the list of what is not quantized leaves out."""
    missed = [each for each in release.kept if _is_expected_quantized(release, each)]
    if not missed or not release.modules:
        return
    key = LISTS.get(release.layout or "")
    where = f"`{key}`" if key else "no list of exceptions"
    fix = with_settings(release, **{key: [*_listed(release, key), *missed]}) if key else None
    yield Found(
        CONFIG,
        f"{few(missed)}: in 16 bits, and {where} doesn't name {'them' if key else 'what is so'}, "
        "so engines look for packed weights there",
        f"add {'it' if len(missed) == 1 else 'them'} to {where}" if key else FROM_16_BITS,
        fix,
    )


def _listed(release: Release, key: str) -> list[str]:
    found = release.quantization.get(key)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _is_expected_quantized(release: Release, module: str) -> bool:
    """Tell whether readers of the format would take a linear for a quantized one."""
    if release.layout == "compressed-tensors":
        targets = [each for group in release.groups() for each in _targets(group)]
        chosen = "Linear" in targets or _is_named(module, targets)
        return chosen and not _is_named(module, _listed(release, "ignore"))
    if module == HEAD:
        return False  # stays as it is without being named
    if release.layout == "awq":
        return not any(each in module for each in _listed(release, LISTS["awq"]))
    return release.layout == "gptq" and not release.quantization.get("dynamic")


def _targets(group: Mapping[str, object]) -> list[str]:
    found = group.get("targets")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _is_named(module: str, names: list[str]) -> bool:
    """Tell whether names or patterns select a module, as compressed-tensors does."""
    return module in names or any(
        fits(name.removeprefix("re:"), module) for name in names if name.startswith("re:")
    )


def ignored_but_quantized(release: Release) -> Iterator[Found]:
    """Quantized linears that the list of what is not quantized names."""
    if release.layout != "compressed-tensors":
        return
    names = _listed(release, "ignore")
    wrong = [each for each in release.modules if _is_named(each, names)]
    if wrong:
        kept = [name for name in names if name not in wrong]
        by_name = all(each in names for each in wrong)
        yield Found(
            CONFIG,
            f"{few(wrong)}: quantized, and `ignore` names what is so: engines look for 16-bit "
            "weights there",
            "take it out of `ignore`",
            with_settings(release, ignore=kept) if by_name else None,
        )


def width_beside_config(release: Release) -> Iterator[Found]:
    """The tensors have another width or group size than the config says."""
    for module, parts in release.modules.items():
        if said := _contradiction(release, module, parts):
            way_out = "correct the config if you know better, or fetch the model again"
            yield Found(module, said, way_out)
            return


def _contradiction(release: Release, module: str, parts: Parts) -> str | None:
    """Say how a module's shapes contradict the config, or None."""
    if release.quantization.get("extra_config"):
        return None  # AutoRound's settings of single modules
    matrices = {name: info.shape for name, info in parts.items() if len(info.shape) == 2}
    if release.layout == "gptq" and {"qweight", "qzeros", "scales"} <= matrices.keys():
        said = settings_of(release.quantization, module)
        return _of_words(matrices, said.bits, said.group_size, (matrices["qzeros"][1], said.bits))
    if release.layout == "awq" and {"qweight", "scales"} <= matrices.keys():
        bits, size = release.number("bits") or 4, release.number("group_size") or PER_CHANNEL
        return _of_words(matrices, bits, size, (matrices["qweight"][1], packing.WORD_BITS))
    if (
        release.layout == "compressed-tensors"
        and {"weight_packed", "weight_scale"} <= matrices.keys()
    ):
        return _of_rows(release, module, matrices)
    return None


def _of_words(
    shapes: Mapping[str, tuple[int, ...]], bits: int, size: int, along: tuple[int, int]
) -> str | None:
    """Compare gptq's and awq's shapes: words along the outputs, and what one input's bits fill."""
    words, of_inputs = along
    groups, outputs = shapes["scales"]
    if outputs and packing.WORD_BITS * words != bits * outputs:
        return f"bits: {bits}, and its words hold {packing.WORD_BITS * words / outputs:g}"
    columns = shapes["qweight"][0] * packing.WORD_BITS // of_inputs
    wanted = 1 if size == PER_CHANNEL else -(-columns // size) if size > 0 else 0
    return f"group_size: {size}, and it has {groups} groups" if groups != wanted else None


def _of_rows(release: Release, module: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Compare compressed-tensors' shapes: a row of words for each output."""
    weights = release.weights_of(module)
    bits, said = integer_bits(weights), weights.get("group_size")
    groups = shapes["weight_scale"][1]
    size = said if type(said) is int and said > 0 else None
    columns = release.inputs(module) or (size * groups if size else None)
    if bits is None or not 1 < bits < 9 or columns is None:
        return None
    if size and groups != -(-columns // size):
        return f"group_size: {size}, and it has {groups} groups for {columns} inputs"
    held = shapes["weight_packed"][1]
    fitting = (packing.words(columns, bits), -(-columns // (packing.WORD_BITS // bits)))
    return None if held in fitting else f"num_bits: {bits}, and {held} words for {columns} inputs"


def other_tensor_names(release: Release) -> Iterator[Found]:
    """Tensors under names that engines don't look for."""
    if release.family is None or release.is_planned:
        return
    try:
        found = account(release.config, release.tensors)
    except UserError as error:
        yield Found(release.name, str(error), SAVE_AGAIN)
        return
    odd = [name for name, full in ((v, k) for k, v in found.stored.items()) if name != full]
    if odd:
        yield Found(few(odd), f"the architecture has no such names, as {odd[0]}", SAVE_AGAIN)


def missing_weights(release: Release) -> Iterator[Found]:
    """Linears of the architecture that no file holds."""
    if release.family is None or not release.tensors or not release.blocks:
        return
    there = {*release.modules, *(name.removesuffix(".weight") for name in release.tensors)}
    wanted = [*release.family.linears(release.blocks), release.family.embeddings]
    lost = [module for module in wanted if module not in there]
    if lost and len(lost) < len(wanted):
        way_out = "upload the missing files, or fetch the model again"
        yield Found(few(lost), "no file holds these weights: engines make random ones", way_out)


def tied_head_twice(release: Release) -> Iterator[Found]:
    """A head that is tied to the embeddings and stored all the same."""
    if release.tied and any(name.startswith(f"{HEAD}.") for name in release.tensors):
        yield Found(
            HEAD,
            "tie_word_embeddings: true, and the files hold it: they are larger than needed, and "
            "engines may choose either",
            "save the model without lm_head, or set tie_word_embeddings: false if they differ",
        )


def packed_embeddings(release: Release) -> Iterator[Found]:
    """Packed embeddings in compressed-tensors, which SGLang drops and transformers can't load."""
    found = [name for name in release.modules if name.endswith("embed_tokens")]
    if found and release.layout == "compressed-tensors":
        yield Found(found[0], "packed embeddings", f"{FROM_16_BITS} with embeddings in 16 bits")


def not_quantized(release: Release) -> Iterator[Found]:
    """The config says quantized, and all weights are plain floats."""
    known = (*ALONG_INPUTS, "bitsandbytes")
    plain = release.tensors and all(each.dtype in FLOATS for each in release.tensors.values())
    if release.layout in known and plain and not release.modules:
        yield Found(
            CONFIG,
            f"quant_method is {release.method}, and no tensor is quantized: engines stop, or make "
            "random weights",
            "quantize it again, or take quantization_config out of config.json",
        )


def name_says_quantized(release: Release) -> Iterator[Found]:
    """The name says quantized, and all weights are plain floats of 16 or 32 bits."""
    name = (release.repo or release.name).rstrip("/").rpartition("/")[2]
    said = NAMED_QUANTIZED.search(name)
    plain = release.tensors and all(each.dtype in FLOATS for each in release.tensors.values())
    if said and plain and not release.quantization and MARK not in release.config:
        yield Found(
            name,
            f"the name says {said[0]}, and the files hold plain weights",
            "upload the quantized files, or rename the repo",
        )
