"""What runs on a GPU runs on a device that refuses to mix its tensors with the CPU's."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import hubq_folder
import pytest
import torch
from lm_eval.api.instance import Instance
from pretend_device import pretending
from quantized_folder import Choice, write
from tiny_models import save_tiny_model
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM

from hubq.client.client import Client
from hubq.formats import format_named, formats
from hubq.machine.progress import SILENT
from hubq.methods import Inputs, Layer, method_class, methods
from hubq.records.checkpoint import Checkpoint, QuantizedLayer
from hubq.runtime.modules import Packed
from hubq.runtime.quantizer import HubqConfig
from hubq.runtime.unpacking import unpack_bitmap
from hubq.stages.evaluate.distributions import hidden_states, text_windows
from hubq.stages.evaluate.inference.greedy_decoding import decoded, drawn_prompts, timed
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.inference.static_decoding import (
    StaticDecoder,
    recorded,
    static_decoder,
)
from hubq.stages.evaluate.lm_eval_model import language_model
from hubq.stages.evaluate.measurements.divergence import DivergenceTask, divergence
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, window_losses
from hubq.stages.evaluate.task import keep_text
from hubq.stages.plan.plan import plan
from hubq.stages.quantize import quantization
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import Grid, QuantizedTensor
from hubq.tensors.packing import pack_bitmap

NOWHERE = Client(endpoint="http://127.0.0.1:9")
TEXT = "The llama went home. It was late, and the road was long. " * 12
FORMATS = {
    **dict.fromkeys(("smoothquant", "fp8", "nvfp4", "mxfp4"), "compressed-tensors"),
    "bitsandbytes": "bitsandbytes",
}
# How far the relative output errors of two devices may lie apart, whose sums run in other orders;
# a training of few steps carries that on.
SIMILAR, SIMILAR_TRAINED = 0.05, 0.2
# Loops of these are plain torch on the pretend device, but compiled on a CPU: equal but for ties.
COMPILED = ("billm", "gptq", "pb_llm", "quip", "slim_llm")
DEAR = ("billm", "db_llm", "pb_llm")  # so long in these loops that one block has to do


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Recipe]:
    """Return a function from a method's name to a recipe that quantizes a tiny model by it."""
    model, text = tmp_path / "model", tmp_path / "calibration.txt"
    text.write_text("".join(f"The {each}th llama ate {each * 7} leaves.\n" for each in range(90)))

    def make(name: str) -> Recipe:
        kind = method_class(name)
        save_tiny_model("llama", model, num_hidden_layers=1 if name in DEAR else 2)
        options: dict[str, object] = {"group_size": 32, "epochs": 2}
        return Recipe.model_validate(
            {
                "name": "tiny",
                "model": {"folder": model},
                "method": {"name": name}
                | {key: each for key, each in options.items() if key in kind.model_fields},
                "format": FORMATS.get(name, "hubq"),
                "calibration": {"dataset": {"file": text}, "samples": 8, "length": 64}
                if kind.needs
                else None,
                "publish": {"org": "me"},
            }
        )

    return make


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let a CPU compute attention as other devices do, where it has a fused kernel of its own."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


# Seconds for some: the loops that round columns are compiled once in a process.
@pytest.mark.parametrize("name", methods())
def test_every_method_quantizes_a_model_there_as_on_a_cpu(
    name: str,
    device: torch.device,
    recipe: Callable[[str], Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUBQ_COMPUTE_DTYPE", "bfloat16")  # as the GPU's, on any CPU

    def quantized(where: torch.device) -> Checkpoint:
        run = tmp_path / where.type
        run.mkdir()
        monkeypatch.setattr(quantization, "best_device", lambda: where)
        return quantize(plan(recipe(name), run, NOWHERE), run, NOWHERE)

    with plain_attention():
        expected, found = quantized(torch.device("cpu")), quantized(device)

    assert [each.name for each in found.layers] == [each.name for each in expected.layers]
    trained = method_class(name).tunes
    similar = SIMILAR_TRAINED if trained else SIMILAR
    for here, there in zip(
        map(error_of, found.layers), map(error_of, expected.layers), strict=True
    ):
        assert here == pytest.approx(there, rel=similar)
    if device.type == "pretend" and not trained and name not in COMPILED:
        assert found.files == expected.files
    if device.type == "cuda":
        assert found.device_memory is not None
        assert found.device_reserved is not None
        assert 0 < found.device_memory <= found.device_reserved
    assert expected.device_memory is None
    if recipe(name).format == "hubq":
        assert_runs_packed_there(tmp_path / device.type / "model", device)


def error_of(layer: QuantizedLayer) -> float:
    found = layer.weight_error if layer.error is None else layer.error
    assert found is not None
    return found


def on(device: torch.device, value: Any) -> Any:
    """Move all tensors of a representation to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, QuantizedTensor):
        moved = {each.name: on(device, getattr(value, each.name)) for each in fields(value)}  # type: ignore[arg-type]
        return replace(value, **moved)  # type: ignore[type-var]
    return tuple(on(device, each) for each in value) if isinstance(value, tuple) else value


def layer() -> Layer:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 128, generator=random) * torch.logspace(-1, 1, 128)
    size = inputs.abs()
    statistics = Inputs(400, inputs.T @ inputs, size.mean(0), size.amax(0), inputs[::4])
    weight = torch.randn(64, 128, generator=random) / 10
    return Layer("model.layers.0.mlp.up_proj", weight, statistics)


@pytest.mark.parametrize("name", methods())
def test_every_format_packs_there_the_bytes_of_a_cpu(name: str, device: torch.device) -> None:
    kind = method_class(name)
    method = kind.model_validate({"group_size": 32} if "group_size" in kind.model_fields else {})
    result = method.quantize(layer())
    holding = [each for each in formats() if format_named(each).why_unsupported(result) is None]
    assert holding

    for form in map(format_named, holding):
        expected = form.pack("module", result)
        packed = form.pack("module", on(device, result))

        assert packed.keys() == expected.keys()
        for part, tensor in packed.items():
            assert torch.equal(tensor.cpu(), expected[part]), (form.name, part)


@torch.no_grad()  # views of the pretend device's buffers can't be made in inference mode
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=hubq_folder.IDS.to(model.device)).logits
    return found.float().cpu()


def loaded(folder: Path, device: torch.device | str = "cpu") -> Any:
    return load(folder, device=str(device), dtype="float32").model


def staying_packed(folder: Path, device: torch.device) -> Any:
    auto: Any = AutoModelForCausalLM  # typed in parts
    with warnings.catch_warnings():  # the README says to pass what this warns of
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        model = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            quantization_config=HubqConfig(packed=True),
            trust_remote_code=False,
        )
    return model.to(device)


def assert_runs_packed_there(folder: Path, device: torch.device) -> None:
    """Compare what a folder answers packed there with its answer dequantized at load on a CPU."""
    found = logits(staying_packed(folder, device))

    torch.testing.assert_close(found, logits(loaded(folder)), rtol=1e-3, atol=1e-3)


def test_a_hubq_model_stays_packed_there(
    device: torch.device, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    hubq_folder.write(tiny_model("llama"), folder, hubq_folder.round_all)

    model = staying_packed(folder, device)

    assert isinstance(model.lm_head, Packed)
    assert model.device.type == device.type
    torch.testing.assert_close(logits(model), logits(loaded(folder)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["compressed-tensors", "gptq", "awq", "hubq"])
def test_what_a_format_holds_loads_there(
    name: str, device: torch.device, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    grid = Grid(bits=4, group_size=32, symmetric=name == "gptq")
    write(tiny_model("llama"), tmp_path / name, Choice(format_named(name), grid))

    model = loaded(tmp_path / name, device)

    assert model.device.type == device.type
    expected = logits(loaded(tmp_path / name))
    torch.testing.assert_close(logits(model), expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def result(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return the folder of a quantized model."""
    write(tiny_model("llama"), tmp_path / "result", Choice(format_named("awq"), Grid(4, 32)))
    return tmp_path / "result"


def test_perplexity_is_measured_there(device: torch.device, result: Path) -> None:
    windows = text_windows(hidden_task(), result)
    shared = hidden_task().model_dump(include={"dataset", "text", "length", "windows"})
    task = PerplexityTask(**shared, version="1")

    found = window_losses(Passes(loaded(result, device), result), task, windows)

    expected = window_losses(Passes(loaded(result), result), task, windows)
    assert found == pytest.approx(expected, rel=1e-3)


def hidden_task() -> HiddenTask:
    return HiddenTask(dataset="text", text=keep_text(TEXT), length=32, windows=12)


def test_divergences_are_measured_there(
    device: torch.device, result: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tiny_model("llama")
    found = []
    for where in (device, "cpu"):
        states = tmp_path / f"{where}.safetensors"
        hidden_states(Passes(loaded(base, where), base), hidden_task(), states)
        task = DivergenceTask(
            **hidden_task().model_dump(exclude={"kind", "precision"}),
            beside="",
            precision="float32",
            states=states,
            reference=base,
        )
        found.append(divergence(Passes(loaded(result, where), result), task))

    there, here = found
    assert there.mean.value == pytest.approx(here.mean.value, rel=1e-3)
    assert there.agreement.value == pytest.approx(here.agreement.value, abs=0.02)


def test_questions_are_answered_there(device: torch.device, result: Path) -> None:
    asked: list[tuple[Any, ...]] = [
        (f"{beginning} llama went", f" {end}")
        for beginning in ("A", "The", "My old")
        for end in ("home.", "away, and came back.")
    ]
    texts = [("The llama", {"max_gen_toks": 6, "until": ["\n"]}), ("So", {"max_gen_toks": 6})]

    def answers(where: torch.device | str) -> tuple[list[float], list[str]]:
        model = language_model(loaded(result, where), result, SILENT, "a task")
        values = model.loglikelihood(instances(asked, "loglikelihood"))
        return [each for each, _ in values], model.generate_until(
            instances(texts, "generate_until")
        )

    there, here = answers(device), answers("cpu")

    assert there[0] == pytest.approx(here[0], rel=1e-3)
    assert there[1] == here[1]


def instances(pairs: list[tuple[Any, ...]], kind: Any) -> list[Instance]:
    return [Instance(kind, {}, pair, number) for number, pair in enumerate(pairs)]


def test_tokens_are_timed_there(device: torch.device, result: Path) -> None:
    model = loaded(result, device)

    run = timed(decoded(model, drawn_prompts(model, batch=2, length=8)), 4, device.type)

    assert run.first > 0
    assert run.rest > 0


def test_a_step_on_keys_and_values_that_stay_gives_the_same_tokens_there(
    device: torch.device, result: Path
) -> None:
    model = loaded(result, device)
    prompts = drawn_prompts(model, batch=2, length=8)
    record = recorded if device.type == "cuda" else lambda step: step

    found = static_decoder(model, prompts, 6, record)

    assert isinstance(found, StaticDecoder)
    tokens = [
        [ids.tolist() for ids in islice(steps, 6)]
        for steps in (found.decoded(prompts), decoded(model, prompts))
    ]
    assert tokens[0] == tokens[1]


def test_the_pretend_device_refuses_what_a_gpu_would() -> None:
    with pretending() as pretended:
        there = torch.ones(3, device=pretended)

        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="two devices"):
            torch.ones(3)[there.long()]
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + torch.tensor(1.0)).sum().item() == 6
        assert json.dumps(there.tolist()) == "[1.0, 1.0, 1.0]"


def test_a_packed_bitmap_comes_back_there(device: torch.device) -> None:
    for share in (0.01, 0.5):
        flags = torch.rand(96, 200, generator=torch.Generator().manual_seed(1)) < share
        packed = pack_bitmap(flags.to(device))

        assert packed.device.type == device.type
        assert torch.equal(unpack_bitmap(packed, (96, 200)).cpu(), flags)
