"""The estimated memory against allocations that are counted, and for models too large here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from counted_memory import Counted
from pretend_device import pretending
from tiny_models import save_tiny_model

from hubq.errors import UserError
from hubq.machine.memory import VARIABLE, Place
from hubq.machine.progress import Clock
from hubq.methods import Method, method_class, methods
from hubq.sources.architecture import family_of
from hubq.sources.shards import TensorInfo, Weights
from hubq.sources.skeleton import Skeleton, without_weights
from hubq.stages.plan import memory
from hubq.stages.plan.memory import Walked
from hubq.stages.quantize import block as block_module
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.streams import Room
from hubq.stages.quantize.tuning import Teacher
from hubq.stages.quantize.walk import Walk
from hubq.stages.quantize.windows import EVERY, Windows
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import gram

WINDOWS, LENGTH = 32, 32
# Beside each other as in large models: wide inputs, Gram matrices, weights and batches.
FORMATS = {
    **dict.fromkeys(("smoothquant", "fp8", "nvfp4", "mxfp4"), "compressed-tensors"),
    "bitsandbytes": "bitsandbytes",
}
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "num_hidden_layers": 1,
}
MARGIN = 0.1
LLAMA3: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
LLAMA3_8B = LLAMA3 | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
}
LLAMA3_70B = LLAMA3 | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
}


def recipe(name: str, samples: int, length: int, **options: object) -> Recipe:
    kind = method_class(name)
    chosen = {key: each for key, each in options.items() if key in kind.model_fields}
    text = {"dataset": {"file": __file__}, "samples": samples, "length": length}
    return Recipe.model_validate(
        {
            "name": "any",
            "model": {"folder": Path(__file__).parent},
            "method": {"name": name} | chosen,
            "format": FORMATS.get(name, "hubq"),
            "calibration": text if kind.model_validate(chosen).needed else None,
            "publish": {"org": "me"},
        }
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    save_tiny_model("llama", folder, **SHAPE)
    return folder


def counted(folder: Path, method: Method, place: Place, windows: Windows = EVERY) -> int:
    """Walk through a block there, and return the bytes that lived at most."""
    config = json.loads((folder / "config.json").read_bytes())
    hidden = torch.randn(WINDOWS, LENGTH, SHAPE["hidden_size"]).bfloat16()
    with pretending() as device, Counted() as living:
        room = Room(device, place)
        skeleton = Skeleton(config, family_of(config), device, torch.bfloat16)
        block = Block(skeleton, 0, Weights(folder))
        stream = room.holding(hidden, hidden.dtype) if method.needed else None
        taught = room.holding(hidden.clone(), hidden.dtype)
        entropy = torch.ones(WINDOWS, LENGTH, device=device)
        teacher = Teacher(taught, entropy, windows) if method.tunes else None
        del taught
        Walk(block, method, torch.bfloat16, Clock()).run(stream, lambda: None, teacher, windows)
    return int(living.most)


# Seconds for some: the loops that round columns are compiled once in a process.
@pytest.mark.parametrize(
    ("name", "place"),
    [
        (name, place)
        for name in (*methods(), "fp8 by gptq", "nvfp4 by gptq")
        for place in ("device", "host")
        # Nothing flows through some; where it does, most methods see no difference.
        if place == "device" or name in ("awq", "gptq", "db_llm")
    ],
)
def test_a_walk_holds_what_the_plan_says(
    name: str, place: Place, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory.WALKED == block_module.BATCH_TOKENS
    monkeypatch.setattr(memory, "WALKED", 256)  # batches and panels are small in large models
    monkeypatch.setattr(block_module, "BATCH_TOKENS", 256)
    monkeypatch.setattr(gram, "PANEL", 64)
    few = {"epochs": 1, "clips": 2, "powers": 2, "rounds": 1}
    name, _, solver = name.partition(" by ")
    options = {"group_size": 128, **few} | ({"solver": solver} if solver else {})
    wanted = recipe(name, WINDOWS, LENGTH, **options)
    config = json.loads((model / "config.json").read_bytes())
    walked = Walked(
        wanted, config, Weights(model).info, "bfloat16" if wanted.method.needed else None
    )

    found = counted(model, wanted.method, place)

    estimated = walked.memory(place, gpu=True).device - memory.CONTEXT
    assert found == pytest.approx(estimated, rel=MARGIN)


@pytest.mark.parametrize("name", ["gptq", "db_llm"])
def test_windows_of_their_own_lengths_take_what_windows_of_texts_do(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_module, "BATCH_TOKENS", 256)
    options = {"group_size": 128} | ({"epochs": 1} if name == "db_llm" else {})
    method = method_class(name).model_validate(options)
    weights = torch.ones(WINDOWS, LENGTH)
    weights[:, -1] = 0

    found = counted(model, method, "device", Windows(weights))

    assert found == pytest.approx(counted(model, method, "device"), rel=MARGIN)


def headers(config: dict[str, Any]) -> dict[str, TensorInfo]:
    """Return the headers of a model's bfloat16 weights, without any."""
    tensors = without_weights(config).state_dict()
    return {
        name: TensorInfo("", "BF16", tuple(each.shape), 0, 2 * each.numel())
        for name, each in tensors.items()
    }


def needed(config: dict[str, Any], name: str, place: Place) -> float:
    """Return the GB of a GPU's memory for 128 windows of 2048 tokens."""
    wanted = recipe(name, 128, 2048)
    dtype = "bfloat16" if wanted.method.needed else None
    return Walked(wanted, config, headers(config), dtype).memory(place, gpu=True).device / 1e9


@pytest.mark.parametrize("name", methods())
def test_8b_needs_17_gb_and_70b_24(name: str) -> None:
    assert needed(LLAMA3_8B, name, "host") <= 17
    if not method_class(name).tunes:
        assert needed(LLAMA3_8B, name, "device") <= 17
        assert needed(LLAMA3_70B, name, "host") <= 24


@pytest.fixture
def gptq() -> Walked:
    return Walked(recipe("gptq", 128, 2048), LLAMA3_8B, headers(LLAMA3_8B), "bfloat16")


@pytest.mark.parametrize(("free", "place"), [(14.6e9, "device"), (14.4e9, "host")])
def test_states_lie_on_a_gpu_where_they_fit(
    free: float, place: Place, gptq: Walked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), int(80e9)))

    assert gptq.place(torch.device("cuda")) == place


@pytest.mark.parametrize(
    ("asked", "on_gpu", "on_cpu"),
    [("device", "device", "device"), ("host", "host", "device"), ("disk", "disk", "disk")],
)
def test_a_place_can_be_asked_for(
    asked: str, on_gpu: Place, on_cpu: Place, gptq: Walked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, int(80e9)))
    monkeypatch.setenv(VARIABLE, asked)

    assert gptq.place(torch.device("cuda")) == on_gpu
    assert gptq.place(torch.device("cpu")) == on_cpu


def test_an_unknown_place_is_refused(gptq: Walked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cloud")

    with pytest.raises(UserError, match="HUBQ_HIDDEN_STATES is 'cloud': set it to device, host or"):
        gptq.place(torch.device("cpu"))
