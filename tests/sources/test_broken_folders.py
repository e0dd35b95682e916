"""Damaged quantized folders: an error that says so, or the same numbers as before; nothing else."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import hubq_folder
import pytest
import strangers
import torch
from broken_folder import broken
from quantized_folder import Choice
from quantized_folder import write as write_ours
from strangers import Drawing, awq_config, gptq_config
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.stages.convert.conversion import ConversionRequest
from hubq.stages.convert.convert import convert
from hubq.stages.evaluate.inference.loading import load
from hubq.tensors import Grid

Make = Callable[[Path, Path], object]
COMPRESSED = format_named("compressed-tensors")
INTEGERS = Choice(COMPRESSED, Grid(8, 64, symmetric=True), activation_bits=8)


def gptq(base: Path, folder: Path) -> object:
    drawing = Drawing(ordered=False)
    return strangers.write(base, folder, drawing, strangers.gptq, gptq_config(drawing))


def awq(base: Path, folder: Path) -> object:
    drawing = Drawing()
    return strangers.write(base, folder, drawing, strangers.awq, awq_config(drawing))


def auto_round(base: Path, folder: Path) -> object:
    drawing = Drawing(symmetric=True)
    said = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": True}
    packed = {"packing_format": "auto_round:auto_gptq", "extra_config": {"lm_head": {"bits": 16}}}
    return strangers.write(base, folder, drawing, strangers.gptq, said | packed)


FOLDERS: dict[str, Make] = {
    "gptq": gptq,
    "awq": awq,
    "auto-round": auto_round,
    "packed": lambda base, folder: write_ours(base, folder, Choice(COMPRESSED, Grid(3, 32))),
    "integers": lambda base, folder: write_ours(base, folder, INTEGERS),
    "hubq": hubq_folder.write,
}


def weights(folder: Path) -> dict[str, Tensor]:
    found = QuantizedFolder(folder)
    return {module: found.read(module).dequantize() for module in found.modules}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_folder_reads_as_before_or_is_refused(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    FOLDERS[name](tiny_model("llama"), tmp_path / "whole")
    before, chance, refused = weights(tmp_path / "whole"), Random(11), 0

    for _ in range(30):
        done = broken(tmp_path / "whole", tmp_path / "broken", chance)
        try:
            after = weights(tmp_path / "broken")
        except UserError:
            refused += 1
            continue
        assert after.keys() == before.keys(), done
        assert all(torch.equal(after[each], before[each]) for each in before), done

    assert refused > 15


def logits(folder: Path) -> Tensor:
    model = load(folder, device="cpu", dtype="bfloat16").model
    with torch.inference_mode():
        found: Tensor = model(torch.arange(40).reshape(2, 20)).logits
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_folder_is_measured_as_before_or_refused(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """A second or two: transformers loads each."""
    FOLDERS[name](tiny_model("llama"), tmp_path / "whole")
    before, chance = logits(tmp_path / "whole"), Random(12)

    for _ in range(8):
        done = broken(tmp_path / "whole", tmp_path / "broken", chance)
        try:
            after = logits(tmp_path / "broken")
        except UserError:
            continue
        assert torch.equal(after, before), done


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_folder_is_converted_to_the_same_numbers_or_refused(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """A second: each damage is converted and proven."""
    FOLDERS[name](tiny_model("llama"), tmp_path / "whole")
    before, chance = weights(tmp_path / "whole"), Random(13)

    for number in range(8):
        done = broken(tmp_path / "whole", tmp_path / "broken", chance)
        out = tmp_path / f"out-{number}"
        try:
            convert(tmp_path / "broken", out, ConversionRequest("hubq", "broken", lossy=True))
        except UserError:
            assert not out.exists()
            continue
        after = weights(out)
        assert all(torch.equal(after[each], before[each]) for each in before), done
