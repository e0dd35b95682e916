"""How much goes through a model at once, by the model's shape and the memory of a GPU."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from hubq.machine.gpu import DeviceMemory
from hubq.machine.meters import device_memory
from hubq.records.report import Batches
from hubq.stages.evaluate.inference.budget import (
    LEAST,
    MOST,
    ON_CPU,
    Shape,
    batches_for,
    behind,
    recorded,
    sized,
)

LLAMA3_8B = Shape(4096, 14336, 32, 2 * 8 * 128, 128256, tied=False, width=2)
LLAMA3_70B = Shape(8192, 28672, 80, 2 * 8 * 128, 128256, tied=False, width=2)
LLAMA2_7B = Shape(4096, 11008, 32, 2 * 32 * 128, 32000, tied=False, width=2)
SMOLLM2 = Shape(576, 1536, 30, 2 * 3 * 64, 49152, tied=True, width=2)
SIZES = ("passed", "kept", "predicted", "written")
GPUS = [16, 24, 48, 80, 141]  # GB


def on(gigabytes: float, shape: Shape = LLAMA3_8B, free: float | None = None) -> Batches:
    """Size batches for a GPU of which the base in 16 bits has taken what it takes."""
    total = int(gigabytes * 1e9)
    left = total - shape.weight_bytes if free is None else int(free * 1e9)
    return sized(shape, DeviceMemory(total, max(0, left)))


@pytest.mark.parametrize(("shape", "gigabytes"), [(LLAMA3_8B, 16.1), (LLAMA3_70B, 141.1)])
def test_the_weights_are_about_what_the_files_have(shape: Shape, gigabytes: float) -> None:
    assert shape.weight_bytes == pytest.approx(gigabytes * 1e9, rel=0.01)


def test_tied_embeddings_are_there_once() -> None:
    assert SMOLLM2.weight_bytes == pytest.approx(269e6, rel=0.01)


def test_an_8b_gets_about_what_it_always_had_on_24_gb_and_more_on_more() -> None:
    assert on(25.4) == Batches(passed=16384, kept=16384, predicted=1024, written=8192)
    assert on(150) == Batches(passed=1 << 16, kept=1 << 17, predicted=1 << 14, written=1 << 17)


def test_what_hardly_fits_gets_the_least() -> None:
    assert on(16) == LEAST
    assert on(141, LLAMA3_70B) == LEAST


@pytest.mark.parametrize("shape", [LLAMA3_8B, LLAMA2_7B, SMOLLM2])
@pytest.mark.parametrize("gigabytes", GPUS)
def test_sizes_are_powers_of_two_that_never_shrink_with_memory(
    shape: Shape, gigabytes: int
) -> None:
    found, more = on(gigabytes, shape), on(1.5 * gigabytes, shape)

    for name in SIZES:
        size = getattr(found, name)
        assert size & (size - 1) == 0
        assert getattr(LEAST, name) <= size <= getattr(more, name) <= getattr(MOST, name)


@pytest.mark.parametrize("gigabytes", [24, 48, 80, 141])
def test_what_passes_and_is_kept_fits_beside_the_weights(gigabytes: int) -> None:
    shape, found = LLAMA3_8B, on(gigabytes)
    assert found.kept is not None
    kept, passed = 2 * 32 * 2048, 2 * (12 * 4096 + 3 * 14336)  # bytes a token
    room = gigabytes * 1e9 - shape.weight_bytes

    assert found.passed * passed + found.kept * kept < room
    assert found.predicted * shape.vocabulary * 10 + found.kept * kept < room
    assert found.written * (kept + passed) < room


def test_a_few_bytes_more_or_less_change_nothing_and_nor_does_a_smaller_copy() -> None:
    assert on(24) == on(24.01) == on(24, free=20)  # of a copy with fewer bits more is left free


def test_a_gpu_that_others_hold_gets_less_at_once() -> None:
    alone, crowded = on(80), on(80, free=2)

    assert crowded.passed < alone.passed
    assert crowded.written < alone.written


def test_wider_vocabularies_and_caches_allow_fewer_tokens() -> None:
    assert on(24, LLAMA2_7B).predicted > on(24).predicted
    assert on(48, LLAMA2_7B).kept < on(48).kept  # type: ignore[operator] # it has 4 times the heads


@pytest.mark.parametrize("depth", [1, 500, 4000, 100_000])
def test_behind_a_prefix_no_more_is_kept_than_there_is_room_for(depth: int) -> None:
    sizes = Batches(passed=16384, kept=16384, predicted=256, written=8192)

    tokens = behind(sizes, depth, row=512)

    assert tokens <= sizes.passed
    assert tokens / 512 * (512 + depth) <= 16384


def test_without_a_prefix_or_on_a_cpu_nothing_is_kept() -> None:
    assert behind(LEAST, 0, 512) == LEAST.passed
    assert behind(ON_CPU, 4000, 512) == ON_CPU.passed


def test_a_cpu_has_what_it_always_had_and_records_nothing() -> None:
    model = SimpleNamespace(device=torch.device("cpu"))

    assert batches_for(model) == Batches(passed=2048, kept=None, predicted=256, written=8192)
    assert recorded(model) is None


def test_another_device_has_what_it_always_had() -> None:
    model = SimpleNamespace(device=torch.device("meta"))

    assert batches_for(model).passed == 16384


def test_a_models_shape_is_that_of_its_config(tiny_model: Callable[[str], Path]) -> None:
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(tiny_model("llama3.2"), dtype=torch.bfloat16)
    norms = sum(each.numel() for name, each in model.named_parameters() if "norm" in name)

    shape = Shape.of(model)

    assert shape.kept == 2 * model.model.layers[0].self_attn.k_proj.out_features
    expected = 2 * (model.num_parameters() - norms)
    assert shape.weight_bytes == pytest.approx(expected, rel=0.2)


def test_what_torch_keeps_unused_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 30)

    assert device_memory() == DeviceMemory(total=80, free=30)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_sizes_are_recorded(tiny_model: Callable[[str], Path]) -> None:
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(tiny_model("llama3.2"), dtype=torch.bfloat16).to("cuda")

    assert recorded(model) == batches_for(model)
