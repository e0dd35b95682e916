"""Block by block a model gives the very numbers that it gives whole."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hubq_folder
import pytest
import torch
from quantized_folder import Choice, write
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_model

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.stages.evaluate.distributions import hidden_states
from hubq.stages.evaluate.inference import decoder as module
from hubq.stages.evaluate.inference.dense_weights import DenseWeights
from hubq.stages.evaluate.inference.likelihoods import Likelihood, Scorer
from hubq.stages.evaluate.inference.lm_head import require_head
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.inference.prefixes import Sequence, parts
from hubq.stages.evaluate.measurements.divergence import DivergenceTask, divergence
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, perplexity
from hubq.stages.evaluate.task import keep_text
from hubq.tensors import Grid

TEXT = "The llama went home. It was late, and the road was long. " * 12
LENGTH = 32
FAMILIES = ("llama", "llama3.1", "llama3.2", "mistral", "qwen2", "qwen3")
SLIDING: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 16},
    "qwen2": {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1},
}


def tokens(seed: object, count: int) -> list[int]:
    return random.Random(str(seed)).choices(range(256), k=count)


def asked() -> list[Sequence]:
    """Return choices behind examples that some questions share further than others."""
    examples, found = tokens("examples", 240), list[Sequence]()
    for begin in [examples[:160]] * 30 + [examples] * 30 + [[]] * 3:
        context = begin + tokens(len(found), 30)
        for _ in range(4):
            choice = tokens(len(found), 3)
            found.append(Sequence((context + choice)[:-1], choice, len(found)))
    return found


def likelihoods(model: Any, folder: Path) -> list[Likelihood]:
    return sorted(each for some in Scorer(model, folder).score(asked()) for each in some)


def measured(folder: Path, by_blocks: bool, dtype: str = "bfloat16", device: str = "cpu") -> Any:
    """Measure all that needs no writing."""
    model = load(folder, device=device, dtype=dtype, by_blocks=by_blocks).model
    require_head(model, folder)
    text = keep_text(TEXT)
    ppl = PerplexityTask(dataset="text", version="1", text=text, length=LENGTH, windows=None)
    hidden = HiddenTask(dataset="text", text=text, length=LENGTH, windows=6)
    passes, states = Passes(model, folder, (ppl, hidden)), Path(f"{folder}-states.safetensors")
    found = [perplexity(passes, ppl)]
    hidden_states(passes, hidden, states)
    compared = DivergenceTask(
        **hidden.model_dump(exclude={"kind", "precision"}),
        beside="",
        precision=dtype,
        states=states,
        reference=folder,
    )
    other = load(folder, device=device, dtype="float16", by_blocks=by_blocks).model
    return [*found, load_file(states)["states"], divergence(Passes(other, folder), compared),
            likelihoods(model, folder)]  # fmt: skip


def assert_same(folder: Path, dtype: str = "bfloat16", device: str = "cpu") -> None:
    whole, states, *others = measured(folder, by_blocks=False, dtype=dtype, device=device)
    found, own, *rest = measured(folder, by_blocks=True, dtype=dtype, device=device)

    assert found == whole
    assert torch.equal(own, states)
    assert rest == others


def test_what_is_asked_has_prefixes_that_grow_and_trees() -> None:
    found = list(parts(asked(), 1 << 30))

    assert sum(bool(part.prefix) for part in found) > 1
    assert any(part.kept and part.prefix for part in found)
    assert any(not tree.is_chain for part in found for tree in part.trees)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_numbers_of_the_whole_model(
    family: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / family
    folder.symlink_to(tiny_model(family))

    assert_same(folder)


@pytest.mark.parametrize("family", SLIDING)
def test_attention_through_a_window_is_that_of_the_whole_model(family: str, tmp_path: Path) -> None:
    save_tiny_model(family, tmp_path / "model", **SLIDING[family])

    assert_same(tmp_path / "model", "float32")


def packed(form: str, grid: Grid, activation_bits: int | None = None) -> Any:
    choice = Choice(format_named(form), grid, activation_bits=activation_bits)
    return lambda base, folder: write(base, folder, choice)


PACKED = {
    "gptq": packed("gptq", Grid(bits=4, group_size=32, symmetric=True)),
    "awq": packed("awq", Grid(bits=4, group_size=32)),
    "compressed-tensors": packed("compressed-tensors", Grid(bits=4, group_size=32)),
    "symmetric": packed("compressed-tensors", Grid(bits=4, group_size=32, symmetric=True)),
    "rounded inputs": packed("compressed-tensors", Grid(bits=8, symmetric=True), 8),
    "hubq": hubq_folder.write,
    "hubq, embeddings too": partial(hubq_folder.write, quantize=hubq_folder.round_all),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("form", PACKED)
def test_every_format_gives_the_numbers_of_the_whole_model(
    form: str, dtype: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    PACKED[form](tiny_model("llama3.2"), tmp_path / "model")
    found = [
        likelihoods(
            load(tmp_path / "model", device="cpu", dtype=dtype, by_blocks=each).model,
            tmp_path / "model",
        )
        for each in (True, False)
    ]

    assert found[0] == found[1]


def test_another_device_gives_the_numbers_of_the_whole_model_there(
    device: torch.device, tiny_model: Callable[[str], Path]
) -> None:
    folder = tiny_model("llama3.2")

    found, whole = (
        likelihoods(
            load(folder, device=str(device), dtype="bfloat16", by_blocks=by_blocks).model, folder
        )
        for by_blocks in (True, False)
    )

    assert found == whole


def test_weights_are_read_once_and_one_block_is_there_at_a_time(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama3.1")
    model = load(folder, device="cpu", dtype="bfloat16", by_blocks=True).model
    read, there, plain = list[str](), list[int](), DenseWeights.read

    def reading(weights: DenseWeights, name: str) -> torch.Tensor:
        read.append(name)
        return plain(weights, name)

    def look(block: Any, *_: object) -> None:
        there.append(sum(not each.is_meta for each in model.blocks_on_disk.blocks.parameters()))

    monkeypatch.setattr(DenseWeights, "read", reading)
    for block in model.blocks_on_disk.blocks:
        block.register_forward_hook(look)

    likelihoods(model, folder)

    inside = [name for name in DenseWeights(folder, "") if ".layers." in name]
    assert sorted(read) == sorted(inside)
    assert set(there) == {len(inside) // 2}
    assert all(each.is_meta for each in model.blocks_on_disk.blocks.parameters())


def test_what_waits_for_a_block_is_held_as_far_as_memory_goes(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama")
    whole = likelihoods(load(folder, device="cpu", dtype="bfloat16").model, folder)
    model = load(folder, device="cpu", dtype="bfloat16", by_blocks=True).model
    passed: list[int] = []
    model.blocks_on_disk.blocks[0].register_forward_pre_hook(lambda *_: passed.append(0))
    model.blocks_on_disk.blocks[1].register_forward_pre_hook(lambda *_: passed.append(1))
    monkeypatch.setattr(module, "available", lambda device: 0)

    found = likelihoods(model, folder)

    assert found == whole
    assert passed != sorted(passed)  # some were through before others began


def test_a_model_runs_as_any_other_too(tiny_model: Callable[[str], Path]) -> None:
    ids = torch.arange(12)[None]
    options = {"max_new_tokens": 5, "do_sample": False}

    found, whole = (
        load(tiny_model("qwen3"), device="cpu", dtype="bfloat16", by_blocks=each).model.generate(
            ids, **options
        )
        for each in (True, False)
    )

    assert torch.equal(found, whole)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder to damage."""
    save_tiny_model("llama", tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_numbers_that_are_none_are_refused_with_the_layer(own: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(own, lambda tensors: tensors[name].fill_(float("nan")))
    model = load(own, device="cpu", dtype="bfloat16", by_blocks=True).model

    with pytest.raises(UserError, match=r"NaN or infinity .*model\.layers\.1\.mlp\.up_proj"):
        likelihoods(model, own)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"), "missing keys: .*up_"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "unexpected keys: more"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}),
            r"mismatched keys: model\.norm",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(own: Path, change: Any, said: str) -> None:
    rewrite(own, change)

    with pytest.raises(UserError, match=said):
        load(own, device="cpu", dtype="bfloat16", by_blocks=True)


def test_a_family_that_hubq_does_not_know_is_refused(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="architecture Gemma2ForCausalLM"):
        load(tiny_model("gemma2"), device="cpu", dtype="bfloat16", by_blocks=True)
