"""The same integers in another format: read a quantized folder, pack it anew, prove it.

Each module is read, packed and, once the file is there, read back: both sides must dequantize to
the same float32 numbers. What a format can't hold is refused, unless the user allows a loss, which
is then measured and stated. One module at a time is in memory.

What holds what. gptq files are written symmetric, awq files with zeros; a symmetric tensor gets
zeros that are written out, and the other way round where all are the middle of the range.
Activation order (gptq's desc_act with groups, compressed-tensors' actorder: group) leaves columns
that share a scale apart. Sorting them would be exact if the module that writes these inputs could
sort its outputs too; that is so for down_proj alone. The inputs of q, k, v, gate and up come from
the residual stream, which has one order for all layers, and those of o_proj from heads. And the
index that once told compressed-tensors the groups (weight_g_idx) is gone: version 0.20 raises at
`actorder: group`, and vLLM took it out in 2026. So such a model goes to hubq with all its integers,
or to dense; to compressed-tensors only with a loss, where 8 bits lose little.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hubq.errors import UserError, did_you_mean
from hubq.machine.engines import LOADER
from hubq.machine.files import PARTIAL, partial_of, read_object
from hubq.machine.progress import SILENT, Progress
from hubq.machine.shortages import memory_for
from hubq.records.run_folder import ADAPTER, ADAPTER_CONFIG
from hubq.sources.auxiliary_files import is_auxiliary
from hubq.sources.license_terms import CHANGES, NOTICE, WHEREABOUTS
from hubq.sources.vision import vision_family_of
from hubq.stages.convert.conversion import RECORD, TARGETS, Conversion, ConversionRequest


def convert(
    model: Path, out: Path, request: ConversionRequest, progress: Progress = SILENT
) -> Conversion:
    """Write the folder `out`, which appears in one step; raise UserError for what can't be held.

    A run that was killed leaves a folder OUT.partial, which the next one begins anew.
    """
    if request.form not in TARGETS:
        raise UserError(
            f"hubq does not convert to {request.form}; {did_you_mean(request.form, TARGETS)}"
        )
    _require_free(out, model, fresh=request.fresh)
    if (model / ADAPTER / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"{model} is a model with an adapter, which no conversion carries along: convert the "
            "model without it, or merge it first (adapt.merge: true in a recipe)"
        )

    if family := vision_family_of(_config(model)):
        raise UserError(
            f"{model} is a {family.title} model, which sees pictures, and hubq converts models "
            "that read text alone: quantize its 16-bit original in the format that you want"
        )
    from hubq.stages.convert.transcoding import Transcoding

    partial = partial_of(out)
    with memory_for("converting", "free memory, or use a machine with more, then run again"):
        work = Transcoding(model, request, progress)
        work.write(partial)
        return work.finish(partial, out, work.prove(partial))


def _config(model: Path) -> dict[str, Any]:
    """Return what config.json says; nothing where there is none, which is refused later."""
    path = model / "config.json"
    return read_object(path) if path.is_file() else {}


def _require_free(out: Path, model: Path, *, fresh: bool) -> None:
    """Refuse to overwrite: the source, what no conversion made, and without --fresh anything."""
    place, source = out.resolve(), model.resolve()
    if place == source or place.is_relative_to(source) or source.is_relative_to(place):
        raise UserError(f"one of {out} and {model} contains the other; set another --out")
    _refuse_strangers(partial_of(out))
    if not out.exists():
        return
    if not (out / RECORD).is_file():
        raise UserError(f"{out} exists and hubq did not make it: name another with --out")
    if not fresh:
        raise UserError(f"{out} already exists; replace it with --fresh, or name another: --out")
    _refuse_strangers(out)


def _refuse_strangers(folder: Path) -> None:
    """Refuse to replace a folder that holds what no conversion writes."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} was not made by a conversion: name another with --out")
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if strangers := sorted(path for path in found if not _is_ours(path)):
        raise UserError(
            f"{folder} would be replaced, but holds files that no conversion wrote "
            f"({', '.join(strangers[:3])}).\n"
            "Move it elsewhere, or name another folder with --out"
        )


def _is_ours(path: str) -> bool:
    """Tell whether a file in a converted folder, finished or not, is one that converting writes."""
    from hubq.formats.gptq import OLD_CONFIG
    from hubq.sources.shards import INDEX

    name = path.removesuffix(PARTIAL)
    others = {RECORD, "README.md", INDEX, OLD_CONFIG, LOADER, CHANGES, NOTICE, WHEREABOUTS}
    is_weight = fnmatchcase(name, "model*.safetensors") or fnmatchcase(name, "parts/*.safetensors")
    return is_weight or name in others or is_auxiliary(name)
