"""Whole model folders: a quantized one with other scales, one merged with its adapter in 16 bits.

Each appears in one step, so a folder that is there is complete.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from hubq.client.client import Client
from hubq.machine.device import dtype_name
from hubq.machine.files import partial_folder, put_in_place, write_atomically
from hubq.machine.progress import Progress
from hubq.methods.adapters.branches.correction import Correction
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.recipe_inputs import ModelSection
from hubq.records.run_folder import ADAPTED, CHECKPOINT, MODEL, STEPS
from hubq.sources.auxiliary_files import beside_config, json_bytes
from hubq.sources.license_terms import governing_license
from hubq.sources.shards import Piece, merge, overwrite, pieces, write
from hubq.stages.adapt.quantized_modules import QuantizedModules
from hubq.stages.convert.files import LEFT_OUT
from hubq.stages.convert.strategies import sixteen_bits
from hubq.stages.plan.plan import plan as planned
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import QuantizedTensor

AGAIN = "again"  # the run folder, among the steps, in which a merged model is quantized
MERGED = (
    "This is the quantized model and its adapter in one, in 16 bits: each linear is what its "
    "quantized weights stand for plus the adapter's product, so that it takes the memory of the "
    "unquantized model, and is not that model."
)
REQUANTIZED = (
    "The quantized model and its adapter were merged in 16 bits and quantized again by {title}: "
    "rounding the adapter in loses some of what it brings, and the numbers here are of the result."
)


def write_with(folder: Path, target: Path, changed: Mapping[str, QuantizedTensor]) -> None:
    """Copy a quantized folder with other tensors, of the same layout, in some modules' places.

    All other bytes stay as they are: config, codes, the names and headers of files.
    """
    partial = partial_folder(target)
    shutil.copytree(folder, partial, copy_function=shutil.copyfile, dirs_exist_ok=True)
    form = QuantizedModules(folder).form
    for module, tensor in changed.items():
        overwrite(partial, form.pack(module, tensor))
    put_in_place(partial, target)


def merged(
    plan: Plan, folder: Path, target: Path, added: Mapping[str, Correction], gamma: float
) -> tuple[str, ...]:
    """Write a quantized folder with gamma B A added to its linears, in 16 bits.

    Return the sentences for the card.
    """
    partial, source = partial_folder(target), QuantizedModules(folder)
    dtype = sixteen_bits(getattr(torch, plan.dtype))
    modules = [each.name for each in plan.modules if each.quantized]
    packed = {part for module in modules for part in source.parts(module)}
    info = source.weights.info
    others = [
        Piece(name, folder / info[name].file, info[name]) for name in info if name not in packed
    ]
    parts = partial / "parts"
    parts.mkdir()
    for number, module in enumerate(modules):
        weight = source.module(module).dequantize()
        if module in added:
            weight.addmm_(added[module].b, added[module].a, alpha=gamma)
        write(parts / f"{number:06d}.safetensors", {f"{module}.weight": weight.to(dtype)})
    dense = [piece for part in sorted(parts.iterdir()) for piece in pieces(part)]
    merge([*others, *dense], partial)
    shutil.rmtree(parts)
    beside = beside_config(folder, governing_license(plan))
    config = {key: each for key, each in source.config.items() if key not in LEFT_OUT}
    config["dtype" if "dtype" in config else "torch_dtype"] = dtype_name(dtype)
    for name, content in {**beside.files, "config.json": json_bytes(config)}.items():
        write_atomically(partial / name, content)
    put_in_place(partial, target)
    return (MERGED, *beside.facts)


def requantized(
    plan: Plan, run: Path, whole: Path, client: Client, progress: Progress
) -> Checkpoint:
    """Quantize a merged folder as the recipe says into run/adapted/model.

    That is done in a run folder of its own among the steps, whose checkpoint this is. Its facts
    say what was done.
    """
    own, target = run / ADAPTED / STEPS / AGAIN, run / ADAPTED / MODEL
    recipe = Recipe.model_validate(plan.recipe)
    again = recipe.model_copy(
        update={"model": ModelSection(folder=whole, license=plan.license), "adapt": None}
    )
    own.mkdir(parents=True, exist_ok=True)
    if not (own / CHECKPOINT).is_file():
        quantize(planned(again, own, client), own, client, progress)
    if (own / MODEL).is_dir():
        put_in_place(own / MODEL, target)
    checkpoint = Checkpoint.load(own / CHECKPOINT)
    facts = (REQUANTIZED.format(title=recipe.method.title), *checkpoint.facts)
    return checkpoint.model_copy(update={"facts": facts})
