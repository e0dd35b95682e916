import json
from collections.abc import Callable
from pathlib import Path

import hubq_folder
import pytest
import quantized_folder
from safetensors.torch import load_file
from tiny_vision import save_tiny_vision_model

from hubq.formats import format_named
from hubq.sources.shards import index
from hubq.tensors import Grid
from serving.model_files import PROCESS, estimate_memory

TinyModel = Callable[[str], Path]
FORMATS = ("compressed-tensors", "gptq", "awq")


def weighed(folder: Path, tokens: int = 0, answer: int = 0, number: int = 2) -> int:
    config = json.loads((folder / "config.json").read_bytes())
    return estimate_memory(config, index(folder), tokens, answer, number)


def stored(folder: Path) -> int:
    return sum(info.end - info.begin for info in index(folder).values())


def dense(folder: Path) -> int:
    return 2 * sum(each.numel() for each in load_file(folder / "model.safetensors").values())


def quantized(form: str, base: Path, folder: Path) -> Path:
    grid = Grid(bits=4, group_size=32, symmetric=form == "gptq")
    quantized_folder.write(base, folder, quantized_folder.Choice(format_named(form), grid))
    return folder


def test_a_plain_model_takes_its_weights_and_a_process(tiny_model: TinyModel) -> None:
    folder = tiny_model("llama")

    assert weighed(folder) == PROCESS + dense(folder)
    assert weighed(folder, number=4) == PROCESS + 2 * dense(folder)


def test_a_hubq_folder_takes_16_bits_a_parameter_and_its_file(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    twin = hubq_folder.write(tiny_model("llama"), tmp_path / "packed", hubq_folder.round_all)

    found = weighed(tmp_path / "packed")

    assert found == PROCESS + dense(twin) + stored(tmp_path / "packed")


@pytest.mark.parametrize("form", FORMATS)
def test_a_packed_folder_takes_at_least_16_bits_a_parameter(
    form: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = quantized(form, tiny_model("llama"), tmp_path / "packed")

    found = weighed(folder) - PROCESS - stored(folder)

    least = dense(tiny_model("llama")) * (1 if form == "compressed-tensors" else 2)
    assert least <= found <= 1.2 * least


def test_longer_answers_take_more(tiny_model: TinyModel) -> None:
    folder = tiny_model("llama")

    taken = weighed(folder, tokens=10, answer=3) - weighed(folder)

    keys_and_values = 2 * 2 * (2 * 2 * 16)  # in 16 bits, of 2 layers with 2 heads of 16
    assert taken == 10 * keys_and_values + 3 * 10 * 260


def test_a_model_that_sees_keeps_what_its_language_part_has_read(tmp_path: Path) -> None:
    save_tiny_vision_model("LlavaNextForConditionalGeneration", tmp_path)

    needed = weighed(tmp_path, tokens=10) - weighed(tmp_path)

    assert weighed(tmp_path) == PROCESS + dense(tmp_path)
    assert needed == 10 * 2 * 2 * (2 * 2 * 16)  # keys, values; bytes; layers, heads, width
