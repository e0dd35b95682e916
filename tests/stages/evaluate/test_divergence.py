"""The divergence of next-token distributions, against its definition."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hubq_folder
import numpy as np
import pytest
import torch
from quantized_folder import Choice, write
from safetensors.torch import load_file
from tiny_models import save_tiny_model, tiny_tokenizer
from tokenizers.normalizers import Lowercase
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.records.report import Divergence
from hubq.sources.calibration_tokens import token_ids
from hubq.stages.evaluate.distributions import hidden_states
from hubq.stages.evaluate.inference import passes
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.measurements import divergence as module
from hubq.stages.evaluate.measurements.divergence import (
    DivergenceTask,
    divergence,
    summary,
    token_divergence,
)
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.task import keep_text
from hubq.tensors import Grid

TEXT = "The llama went home. It was late, and the road was long. " * 12
LENGTH = 32
WINDOWS = 20
FLOAT32: Any = {"device": "cpu", "dtype": "float32"}


class Comparison(NamedTuple):
    """A base whose states were kept, and a quantized model."""

    base: Path
    result: Path
    states: Path

    def divergence(self, **changes: Any) -> Divergence:
        """Measure the result."""
        model = load(self.result, **FLOAT32).model
        return divergence(Passes(model, self.result), self.task(**changes))

    def task(self, **changes: Any) -> DivergenceTask:
        return DivergenceTask(
            **hidden_task(**changes).model_dump(exclude={"kind", "precision"}),
            beside="",
            precision="float32",
            states=self.states,
            reference=self.base,
        )


def hidden_task(windows: int = WINDOWS, length: int = LENGTH, text: str = TEXT) -> HiddenTask:
    return HiddenTask(dataset="text", text=keep_text(text), length=length, windows=windows)


def compared(base: Path, result: Path, states: Path, dtype: str = "float32") -> Comparison:
    """Keep the base's states."""
    model = load(base, device="cpu", dtype=dtype).model
    hidden_states(Passes(model, base), hidden_task(), states)
    return Comparison(base, result, states)


def rounded(base: Path, folder: Path, head: Grid | None = None) -> Path:
    """Write the base in 3 bits, so coarse that it shows; return that folder."""
    grid = Grid(bits=3, group_size=32)
    write(base, folder, Choice(format_named("compressed-tensors"), grid, head))
    return folder


def logits(folder: Path) -> Tensor:  # (windows, tokens, vocabulary)
    """Ask the whole model for all distributions at once."""
    windows = torch.tensor(token_ids(TEXT, folder)[: WINDOWS * LENGTH]).view(WINDOWS, LENGTH)
    with torch.inference_mode():
        found: Tensor = load(folder, **FLOAT32).model(input_ids=windows).logits[:, :-1]
    return found.double()


@pytest.fixture
def comparison(tiny_model: Callable[[str], Path], tmp_path: Path) -> Comparison:
    base = tiny_model("llama")
    return compared(base, rounded(base, tmp_path / "result"), tmp_path / "states.safetensors")


@pytest.mark.parametrize("family", ["llama", "llama3.2", "mistral", "qwen2", "qwen3"])
def test_it_is_the_divergence_of_all_distributions_from_the_bases(
    family: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    base, result = tiny_model(family), rounded(tiny_model(family), tmp_path / "result")
    p, q = logits(base).log_softmax(-1), logits(result).log_softmax(-1)
    expected = (p.exp() * (p - q)).sum(-1).numpy()

    found = compared(base, result, tmp_path / "states.safetensors").divergence()

    assert found.tokens == WINDOWS * (LENGTH - 1)
    assert found.mean.value == pytest.approx(expected.mean(), rel=1e-3)
    assert found.median == pytest.approx(np.median(expected), rel=1e-3)
    assert found.percentile_99 == pytest.approx(np.percentile(expected, 99), rel=1e-3)
    agreeing = (p.argmax(-1) == q.argmax(-1)).double().mean()
    assert found.agreement.value == pytest.approx(float(agreeing))
    assert 0 < found.agreement.value < 1


def test_its_direction_is_from_the_reference_to_the_model() -> None:
    reference, own = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()

    found = token_divergence(reference, own)

    assert found.divergence.item() == pytest.approx(
        0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), rel=1e-6
    )


def test_a_shift_of_all_logits_changes_nothing() -> None:
    reference, own = torch.randn(2, 9, 50, generator=torch.Generator().manual_seed(0))
    expected = token_divergence(reference.clone(), own.clone()).divergence

    found = token_divergence(reference + 80, own - 80).divergence

    assert torch.allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_does_not_diverge_from_itself(
    dtype: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tiny_model("llama3.2")
    own = compared(base, base, tmp_path / "states.safetensors", dtype)

    found = divergence(Passes(load(base, device="cpu", dtype=dtype).model, base), own.task())

    assert (found.mean.value, found.percentile_99) == (0, 0)
    assert found.agreement.value == found.agreement.low == found.agreement.high == 1


def test_neither_batches_nor_parts_change_it(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = comparison.divergence()
    monkeypatch.setattr(passes, "TOKENS_A_BATCH", 64)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 7 * 260)
    monkeypatch.setattr(module, "IN_CACHE", 3 * 260)

    in_parts = comparison.divergence()

    assert in_parts.tokens == at_once.tokens
    assert in_parts.mean.value == pytest.approx(at_once.mean.value, rel=1e-4)
    assert in_parts.percentile_99 == pytest.approx(at_once.percentile_99, rel=1e-4)
    assert in_parts.agreement == at_once.agreement


def test_its_interval_takes_windows_for_the_sampling_unit() -> None:
    divergence = torch.tensor([[0.2, 0.4], [0.5, 0.3], [0.5, 0.5]])

    found = summary(divergence, torch.tensor([[True, True], [True, False], [False, False]]))

    noise = 4.303 * np.std([0.3, 0.4, 0.5], ddof=1) / math.sqrt(3)  # Student's t of 3 values
    assert found.mean.value == pytest.approx(0.4)
    assert found.mean.low == pytest.approx(0.4 - noise, rel=1e-3)
    assert found.mean.high == pytest.approx(0.4 + noise, rel=1e-3)
    assert found.agreement.value == pytest.approx(0.5)
    assert (found.agreement.low, found.agreement.high) == (0, 1)  # it is a share


def test_one_window_has_no_interval() -> None:
    found = summary(torch.ones(1, 5), torch.ones(1, 5, dtype=torch.bool))

    assert (found.mean.low, found.mean.high, found.agreement.low) == (None, None, None)


def test_a_short_text_gives_the_windows_that_it_has(comparison: Comparison) -> None:
    base = load(comparison.base, **FLOAT32).model

    hidden_states(Passes(base, comparison.base), hidden_task(windows=500), comparison.states)

    assert load_file(comparison.states)["windows"].shape == (21, LENGTH)


def test_a_text_shorter_than_a_window_is_refused(comparison: Comparison) -> None:
    with pytest.raises(UserError, match=r"text has 684 tokens, fewer than a window of 2048"):
        comparison.divergence(length=2048)


def test_a_quantized_head_counts_as_the_result_has_it(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    base, head = tiny_model("llama"), Grid(bits=3, group_size=32)
    plain = compared(base, rounded(base, tmp_path / "plain"), tmp_path / "states.safetensors")
    other = plain._replace(result=rounded(base, tmp_path / "head", head))
    p, q = logits(base).log_softmax(-1), logits(other.result).log_softmax(-1)

    found = other.divergence()

    assert found.mean.value == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-3)
    assert found.mean.value > plain.divergence().mean.value


def test_a_base_whose_head_is_quantized_is_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    hubq_folder.write(tiny_model("llama"), tmp_path / "packed", hubq_folder.round_all)
    model = load(tmp_path / "packed", **FLOAT32).model

    with pytest.raises(UserError, match=r"no plain tensor lm_head\.weight or model\.embed_tokens"):
        hidden_states(Passes(model, tmp_path / "packed"), hidden_task(), tmp_path / "states")


def test_another_vocabulary_is_refused(comparison: Comparison, tmp_path: Path) -> None:
    save_tiny_model("llama", tmp_path / "longer", vocab_size=264)
    other = comparison._replace(result=tmp_path / "longer")

    with pytest.raises(UserError, match=r"a vocabulary of 264 tokens and .* one of 260"):
        other.divergence()


def test_another_tokenizer_is_refused(comparison: Comparison, tmp_path: Path) -> None:
    shutil.copytree(comparison.base, tmp_path / "other")
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = Lowercase()
    tokenizer.save_pretrained(tmp_path / "other")

    with pytest.raises(UserError, match="their tokenizers differ"):
        comparison._replace(result=tmp_path / "other").divergence()


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{}", b"\2" + bytes(7) + b"{}", None])
def test_states_that_cannot_be_read_say_the_way_out(
    content: bytes | None, comparison: Comparison
) -> None:
    comparison.states.unlink()
    if content is not None:
        comparison.states.write_bytes(content)

    with pytest.raises(UserError, match="delete the file and run again"):
        comparison.divergence()


def test_states_that_were_cut_short_are_refused(comparison: Comparison) -> None:
    comparison.states.write_bytes(comparison.states.read_bytes()[:-100])

    with pytest.raises(UserError, match="delete the file and run again"):
        comparison.divergence()


def broken(folder: Path) -> Any:
    """Load a model that computes NaN in its second block."""
    model = load(folder, **FLOAT32).model
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = math.nan
    return model


def test_a_result_that_is_no_number_names_its_layer(comparison: Comparison) -> None:
    model = broken(comparison.base)

    with pytest.raises(UserError, match=r"output of model\.layers\.1\.mlp\.up_proj"):
        divergence(Passes(model, comparison.base), comparison.task())


def test_a_base_that_is_no_number_names_its_layer(comparison: Comparison, tmp_path: Path) -> None:
    model, file = broken(comparison.base), tmp_path / "never.safetensors"

    with pytest.raises(UserError, match=r"output of model\.layers\.1\.mlp\.up_proj"):
        hidden_states(Passes(model, comparison.base), hidden_task(), file)

    assert not file.exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_a_cpu_finds(comparison: Comparison) -> None:
    expected = comparison.divergence()
    model = load(comparison.result, device="cuda", dtype="float32").model

    found = divergence(Passes(model, comparison.result), comparison.task())

    assert found.mean.value == pytest.approx(expected.mean.value, rel=1e-3)
