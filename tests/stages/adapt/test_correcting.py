"""Corrections of a quantized folder: of what it lacks, in any format, and through kills."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from corrected_model import NOWHERE, quantized_run
from progress_recorder import Killed, Killing, Recorder
from torch import Tensor
from transformers import AutoModelForCausalLM

from hubq.machine.progress import SILENT
from hubq.methods.adapters.branches.correction import Correction
from hubq.records.plan import Plan
from hubq.sources import calibration_tokens
from hubq.stages.adapt import correcting
from hubq.stages.adapt.correcting import calibration_of, corrections
from hubq.stages.adapt.quantized_modules import QuantizedModules
from hubq.stages.quantize.resuming import VARIABLE
from hubq.stages.recipe.recipe import Recipe

IDS = torch.arange(120).view(3, 40)
RTN = {"name": "rtn", "bits": 3, "group_size": 32}
AWQ = {"name": "awq", "bits": 3, "group_size": 32}
TALKS = {
    "dataset": {"file": "talks.jsonl", "user": "asks", "assistant": "says"},
    "samples": 8,
    "length": 64,
}
EVERY_HEAD = {"num_key_value_heads": 4}  # AWQ then folds between v and o too
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "compressed-tensors": (RTN, "compressed-tensors"),
    "gptq": (RTN | {"symmetric": True, "bits": 4}, "gptq"),
    "awq": (AWQ | {"bits": 4}, "awq"),
    "hubq": (RTN | {"bits": 2}, "hubq"),
    "bitsandbytes": ({"name": "bitsandbytes"}, "bitsandbytes"),
    "dense": (RTN, "dense"),
}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(IDS).logits
    return found


def of_base(run: Path) -> Any:
    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(run.parent / "base", dtype=torch.float32)


def of_result(plan: Plan, run: Path, found: Mapping[str, Correction]) -> Tensor:
    """Return what the quantized folder answers with corrections added."""
    model, modules = of_base(run), QuantizedModules(run / "model")
    state = {name: modules.read(name).float() for name, _ in model.named_parameters()}
    for name, each in found.items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + each.b @ each.a
    model.load_state_dict(state, strict=False)
    return logits(model)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("method", [RTN, AWQ], ids=["rtn", "awq"])
@pytest.mark.parametrize("family", ["mistral", "qwen2"])  # without biases and with them
def test_the_full_rank_gives_the_base_back_whatever_was_folded_into_norms_and_linears(
    family: str, method: dict[str, Any], tmp_path: Path
) -> None:
    plan, run = quantized_run(tmp_path, family, method, model=EVERY_HEAD)

    found = corrections(plan, run, NOWHERE, SILENT, rank=64, damping=1e-6)

    expected = logits(of_base(run))
    assert distance(of_result(plan, run, {}), expected) > 0.02
    assert distance(of_result(plan, run, found), expected) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_any_format_comes_closer_to_the_base(kind: str, tmp_path: Path) -> None:
    method, form = KINDS[kind]
    plan, run = quantized_run(tmp_path, "llama", method, form)

    found = corrections(plan, run, NOWHERE, SILENT, rank=16, damping=0.01, dtype="bfloat16")

    assert list(found) == [each.name for each in plan.modules if each.name.endswith("_proj")]
    for each in found.values():
        assert each.a.dtype == torch.float32
        assert torch.equal(each.a, each.a.bfloat16().float())
        assert 0 < each.facts["error_after"] < each.facts["error_before"]
    expected = logits(of_base(run))
    before, after = (distance(of_result(plan, run, each), expected) for each in ({}, found))
    assert after < 0.8 * before
    assert calibration_of(run).tokens == 8 * 64


def test_a_linear_is_corrected_for_inputs_that_come_from_corrected_ones(tmp_path: Path) -> None:
    plan, run = quantized_run(tmp_path, "mistral", RTN, model=EVERY_HEAD)
    last = "model.layers.1.mlp.down_proj"

    found = corrections(plan, run, NOWHERE, SILENT, rank=64, damping=1e-6)  # none errs any more

    base, modules = of_base(run), QuantizedModules(run / "model")
    section = Recipe.model_validate(plan.recipe).calibration
    assert section is not None
    reaching: list[Tensor] = []
    base.get_submodule(last).register_forward_pre_hook(lambda _, given: reaching.append(given[0]))
    with torch.no_grad():
        base(calibration_tokens.tokens(section, run.parent / "base", NOWHERE).ids)
    weight = base.get_submodule(last).weight.detach()
    lost = (modules.read(f"{last}.weight") - weight, weight)
    error, whole = ((reaching[0] @ each.T).square().sum() for each in lost)
    assert found[last].facts["error_before"] == pytest.approx(float(error / whole), rel=1e-3)


def test_quantized_embeddings_are_where_the_tokens_begin(tmp_path: Path) -> None:
    plan, run = quantized_run(tmp_path, "llama3.2", RTN, embeddings=8)

    found = corrections(plan, run, NOWHERE, SILENT, rank=16, damping=0.01)

    assert QuantizedModules(run / "model").read("model.embed_tokens.weight").shape == (260, 64)
    assert found["model.layers.1.mlp.down_proj"].facts["error_after"] > 0


# Of eight steps, four a block: those after which it is killed; fewer are left once a block is kept.
@pytest.mark.parametrize(
    ("keep_every", "killed", "on"),
    [("0", (1, 4, 5, 3), {}), ("1e9", (1, 4, 5, 7), {}), ("0", (5,), {"calibration": TALKS})],
    ids=["kept", "not kept", "on conversations"],
)
def test_a_walk_killed_at_each_of_its_steps_ends_with_the_same_numbers(
    keep_every: str,
    killed: tuple[int, ...],
    on: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, keep_every)
    monkeypatch.chdir(tmp_path)
    rows = ({"asks": f"{number}?", "says": "Yes. " * (number % 5)} for number in range(20))
    Path("talks.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    plan, run = quantized_run(tmp_path, "llama", RTN, **on)
    steps = run / "adapted" / "steps"
    expected = corrections(plan, run, NOWHERE, SILENT, rank=8, damping=0.01)
    steps.rename(tmp_path / "whole")

    for number in killed:
        with suppress(Killed):
            corrections(plan, run, NOWHERE, Killing(number, "Correcting"), rank=8, damping=0.01)
            pytest.fail("it ended before it was killed")
    recorder = Recorder()
    found = corrections(plan, run, NOWHERE, recorder, rank=8, damping=0.01)

    assert recorder.steps == recorder.totals
    assert list(found) == list(expected)
    for name, each in found.items():
        assert torch.equal(each.a, expected[name].a)
        assert torch.equal(each.b, expected[name].b)
        assert each.facts == expected[name].facts
    for path in sorted((tmp_path / "whole").rglob("block-*")):
        assert (steps / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_what_is_finished_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = quantized_run(tmp_path, "llama", RTN)
    expected = corrections(plan, run, NOWHERE, SILENT, rank=8, damping=0.01)
    monkeypatch.setattr(correcting, "CorrectedBlock", None)

    found = corrections(plan, run, NOWHERE, SILENT, rank=8, damping=0.01)

    assert torch.equal(
        found["model.layers.0.mlp.up_proj"].a, expected["model.layers.0.mlp.up_proj"].a
    )


def test_it_is_computed_on_another_device(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, run = quantized_run(tmp_path, "llama", AWQ)
    expected = corrections(plan, run, NOWHERE, SILENT, rank=8, damping=0.01)
    (run / "adapted").rename(tmp_path / "here")
    monkeypatch.setattr(correcting, "best_device", lambda: device)

    found = corrections(plan, run, NOWHERE, SILENT, rank=8, damping=0.01)

    for name, each in found.items():
        assert each.facts == pytest.approx(expected[name].facts, rel=1e-2)
