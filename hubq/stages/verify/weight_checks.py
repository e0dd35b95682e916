"""Checks of the weights: what the report says of them is counted again, in the files' headers."""

import math
from collections.abc import Iterator, Mapping

from hubq.errors import UserError
from hubq.records.adapted_report import AdaptedReport
from hubq.records.report import Report
from hubq.sources.tensor_headers import TensorInfo
from hubq.sources.vision import VISION_FAMILIES
from hubq.stages.card.card import as_published
from hubq.stages.verify.findings import NOT_OURS, Found, judged
from hubq.stages.verify.gather import Subject

WEIGHTS = ".safetensors"
NEAR = 1e-6  # of bits, relative: they went through JSON
BODY = "model"  # where the names of a plan's modules begin
Tensors = Mapping[str, TensorInfo]


def sizes(subject: Subject) -> Found:
    """The files of the weights have as many bytes as the report says, and give its bits."""
    if subject.report is None:
        return NOT_OURS
    told = as_published(subject.report).checkpoint
    size = subject.report.checkpoint.weight_bytes
    if isinstance(subject.report, AdaptedReport):
        size = subject.report.adaptation.weight_bytes
    files = [path for path in subject.files if path.endswith(WEIGHTS)]
    found = sum(subject.files[path].size for path in files)
    wrong = []
    if found != size:
        wrong.append(f"{found:,} bytes of weights, and the report says {size:,}")
    bits = 8 * told.weight_bytes / max(1, subject.report.plan.parameters)
    if not math.isclose(bits, told.model_bits, rel_tol=NEAR):
        wrong.append(f"{bits:.4g} bits a parameter, and the report says {told.model_bits:.4g}")
    return judged(wrong, f"{found:,} bytes, {bits:.4g} bits a parameter of all that is loaded")


def bits(subject: Subject) -> Found:
    """Each quantized linear has as many bits a weight as the report says."""
    report = subject.report
    if report is None:
        return NOT_OURS
    if isinstance(report, AdaptedReport):
        return Found("unknown", "an adapted model: its linears are not those of the checkpoint")
    _refuse_broken(subject)
    shapes = {each.name: each.shape for each in report.plan.modules}
    named = _by_module(subject.release.tensors, report)
    wrong, stored, weights = [], 0, 0
    for layer in report.checkpoint.layers:
        count = math.prod(shapes.get(layer.name, ()))
        size = sum(info.end - info.begin for info in named.get(layer.name, {}).values())
        stored, weights = stored + size, weights + count
        if not math.isclose(8 * size / count, layer.bits, rel_tol=NEAR):
            found = 8 * size / count
            wrong.append(f"{layer.name} has {found:.4g} bits, and the report says {layer.bits:.4g}")
    mean = 8 * stored / max(1, weights)
    if not math.isclose(mean, report.checkpoint.linear_bits, rel_tol=NEAR):
        said = report.checkpoint.linear_bits
        wrong.append(f"{mean:.4g} bits a weight of the linears, and the report says {said:.4g}")
    return judged(wrong, f"{mean:.4g} bits a weight in {len(report.checkpoint.layers)} linears")


def parameters(subject: Subject) -> Found:
    """Modules have the shapes of the plan, and the format is the recipe's."""
    report = subject.report
    if report is None:
        return NOT_OURS
    if isinstance(report, AdaptedReport) and report.is_adapter:
        return Found("unknown", "an adapter: its model lies in another repo")
    _refuse_broken(subject)
    shown = as_published(report).plan
    wrong = list(_shapes(subject.release.tensors, report))
    form = shown.recipe.get("format")
    found = subject.release.method or "dense"
    if found != form:
        wrong.append(f"config.json says {found}, and the recipe {form}")
    return judged(wrong, f"{len(shown.modules)} modules, format {form}")


def _refuse_broken(subject: Subject) -> None:
    """Refuse files whose headers can't be read."""
    if subject.release.broken:
        path, what = subject.release.broken[0]
        raise UserError(f"{path}: {what}"[:300])


def _shapes(tensors: Tensors, report: Report) -> Iterator[str]:
    """Say which modules have other shapes than planned, and which are missing.

    What is tied to another module lies in no file; of packed ones bits tell.
    """
    named = _by_module(tensors, report)
    there = [name for name in (each.name for each in report.plan.modules) if name in named]
    if not there:
        yield "none of the plan's modules is in the files"
    for each in report.plan.modules:
        parts = named.get(each.name)
        if parts is None and each.quantized:
            yield f"{each.name} is missing"
        elif parts is not None and not each.quantized:
            info = parts.get("weight")
            if info is None or info.shape != each.shape:
                yield f"{each.name} is not a matrix of {each.shape}"


def _by_module(tensors: Tensors, report: Report) -> Mapping[str, Mapping[str, TensorInfo]]:
    """Return the tensors of each module of the plan by their names inside it, biases left out."""
    known = {each.name for each in report.plan.modules}
    found: dict[str, dict[str, TensorInfo]] = {}
    for name, info in tensors.items():
        for spelled in _spelled(name, report):
            module, part = _taken_apart(spelled, known)
            if module and part != "bias":
                found.setdefault(module, {})[part] = info
                break
    return found


def _taken_apart(name: str, known: set[str]) -> tuple[str, str]:
    """Split a tensor's name into its module and its name inside that; empty for another's."""
    module = name
    while (cut := module.rfind(".")) > 0:
        module = module[:cut]
        if module in known:
            return module, name[len(module) + 1 :]
    return "", name


def _spelled(name: str, report: Report) -> Iterator[str]:
    """Yield a tensor's name, and how the plan calls it where a model that sees has another."""
    yield name
    family = VISION_FAMILIES.get(report.plan.vision.architecture) if report.plan.vision else None
    if family is None:
        return
    for body in family.stored_bodies:
        if name.startswith(f"{body}."):
            yield f"{BODY}{name[len(body) :]}"
    for head in family.stored_heads:
        if name.startswith(f"{head}."):
            yield f"lm_head{name[len(head) :]}"
