"""The verb: run/model goes in, run/adapted/model comes out, whatever the adapter."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from corrected_model import NOWHERE, quantized_run
from made_tensors import affine
from progress_recorder import Killed, Killing
from safetensors.torch import load_file
from taught_model import IDS, adapter

from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.machine.progress import SILENT, Progress
from hubq.methods.adapters.ir_qlora import IRQLoRA
from hubq.records.adaptation import Adaptation
from hubq.records.checkpoint import Checkpoint
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTATION, ADAPTED, ADAPTER, CHECKPOINT, MODEL, PLAN, STEPS
from hubq.stages.adapt.adapt import adapt
from hubq.stages.adapt.adapter_files import CONFIG, WEIGHTS, attach
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.quantize.resuming import VARIABLE

RTN = {"name": "rtn", "bits": 4, "group_size": 32}
SMALL: dict[str, Any] = {"steps": 4, "batch_size": 4, "held_out": 4, "learning_rate": 1e-2}


@pytest.fixture
def teach(tmp_path: Path) -> Any:
    """Return a function that quantizes a tiny model for an adapter, and gives its plan and run."""
    rows = [{"prompt": f"What is {n} + {n}?", "completion": f"It is {2 * n}."} for n in range(20)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def quantized(name: str, options: dict[str, Any], **changes: Any) -> tuple[Plan, Path]:
        data = {} if name == "low_rank" else {"dataset": {"file": pairs}, **SMALL}
        section = {"name": name, **data, **options}
        return quantized_run(
            tmp_path, "llama", changes.pop("method", RTN), adapt=section, **changes
        )

    return quantized


def adapted(plan: Plan, run: Path, progress: Progress = SILENT) -> Adaptation:
    return adapt(plan, Checkpoint.load(run / CHECKPOINT), run, NOWHERE, progress)


def logits(folder: Path) -> torch.Tensor:
    model = load(folder, device="cpu", dtype="float32").model
    if (folder / ADAPTER).is_dir():
        attach(model, folder / ADAPTER)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


LORA = {"rank": 4}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "QLoRA": ("qlora", LORA),
    "IR-QLoRA": ("ir_qlora", LORA),
    "QLoRA from a correction": ("qlora", LORA | {"start": "low_rank"}),
    "a correction": ("low_rank", LORA),
    "PEQA": ("peqa", {}),
    "QLoRA in 16 bits": ("qlora", LORA | {"merge": True}),
    "QLoRA, quantized again": ("qlora", LORA | {"merge": "requantized"}),
}


@pytest.mark.parametrize(("name", "options"), KINDS.values(), ids=KINDS)
def test_what_every_adapter_makes_loads_and_is_on_record(
    name: str, options: dict[str, Any], teach: Any
) -> None:
    plan, run = teach(name, options)
    before = logits(run / MODEL)

    made = adapted(plan, run)

    own = run / ADAPTED
    assert Adaptation.load(own / ADAPTATION) == made
    assert Plan.load(own / PLAN) == plan.model_copy(update={"repo": plan.adaptation.repo})
    assert not (own / STEPS).exists()
    published = own / MODEL / (ADAPTER if made.makes == "adapter" else "")
    there = [path for path in published.rglob("*") if path.is_file()]
    assert made.files == {str(each.relative_to(published)): sha256_of(each) for each in there}
    assert made.makes == ("checkpoint" if name == "peqa" or "merge" in options else "adapter")
    assert not torch.equal(logits(own / MODEL), before)
    assert (made.taught is None) == (name == "low_rank")
    assert bool(made.calibration_tokens) == (name == "low_rank" or "start" in options)
    if made.taught is not None:
        assert made.curve is not None
        assert made.held_out is not None
        assert (made.curve.steps[-1], made.held_out.pairs, made.taught.pairs) == (4, 4, 16)


def test_the_folder_of_an_adapter_links_to_the_quantized_model(teach: Any) -> None:
    plan, run = teach("qlora", LORA)

    made = adapted(plan, run)

    folder = run / ADAPTED / MODEL
    links = {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}
    assert links == {path.name: f"../../model/{path.name}" for path in (run / MODEL).iterdir()}
    assert set(made.files) == {CONFIG, WEIGHTS}
    config = json.loads((folder / ADAPTER / CONFIG).read_bytes())
    assert (config["base_model_name_or_path"], config["revision"]) == (plan.repo, None)
    assert len(config["target_modules"]) == 7
    assert made.weight_bytes == (folder / ADAPTER / WEIGHTS).stat().st_size


def test_a_run_killed_in_its_training_ends_with_the_same_files(
    teach: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    plan, run = teach("ir_qlora", LORA | {"dropout": 0.1})
    whole = adapted(plan, run)

    with pytest.raises(Killed):
        adapted(plan, run, Killing(2, "Steps"))
    (kept,) = (run / ADAPTED / STEPS).glob("training-*/*/states.safetensors")
    again = adapted(plan, run)

    assert kept.parent.name == "00002"
    assert again.files == whole.files
    assert (again.curve, again.held_out) == (whole.curve, whole.held_out)


@pytest.fixture
def killed(teach: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Path, Path]:
    """Return a plan, its run, and the states that a training of four steps left after two."""
    monkeypatch.setenv(VARIABLE, "0")
    plan, run = teach("qlora", LORA)
    with pytest.raises(Killed):
        adapted(plan, run, Killing(2, "Steps"))
    (states,) = (run / ADAPTED / STEPS).glob("training-*")
    return plan, run, states


def with_options(plan: Plan, **options: Any) -> Plan:
    return plan.model_copy(
        update={"recipe": {**plan.recipe, "adapt": {**plan.recipe["adapt"], **options}}}
    )


def test_a_training_of_other_options_is_not_lost(killed: tuple[Plan, Path, Path]) -> None:
    plan, run, states = killed

    with pytest.raises(UserError, match=r"adapt\.learning_rate: 0\.01 there, 0\.001 now"):
        adapted(with_options(plan, learning_rate=1e-3), run)

    assert any(states.iterdir())


def test_with_fewer_examples_at_once_a_training_begins_anew(
    killed: tuple[Plan, Path, Path],
) -> None:
    plan, run, states = killed

    with pytest.raises(Killed):
        adapted(with_options(plan, at_once=2), run, Killing(1, "Steps"))

    assert not states.exists()
    fresh = adapted(with_options(plan, at_once=2), run)
    assert fresh.curve is not None
    assert fresh.curve.steps == (1, 2, 3, 4)


def test_connections_are_on_record(teach: Any) -> None:
    plan, run = teach("ir_qlora", LORA)

    made = adapted(plan, run)

    assert len(made.layers) == 14
    assert all(set(layer.facts) == {"averaged", "copied"} for layer in made.layers)
    assert all(layer.facts["copied"] for layer in made.layers)
    tensors = load_file(run / ADAPTED / MODEL / ADAPTER / WEIGHTS)
    assert all(each.isfinite().all() for each in tensors.values())


def test_what_readers_round_and_a_training_does_not_is_said(teach: Any) -> None:
    method = {"name": "bitsandbytes", "data_type": "int8"}
    plan, run = teach("qlora", LORA, method=method, form="bitsandbytes")

    made = adapted(plan, run)

    assert any("INT8" in fact for fact in made.facts)


def test_memory_that_runs_out_says_what_takes_less(teach: Any) -> None:
    plan, run = teach("qlora", LORA)

    class Full:
        def task(self, title: str, total: int) -> Any:
            raise MemoryError

    with pytest.raises(UserError, match=r"adapting ran out of memory.*adapt\.at_once \(now 4\)"):
        adapted(plan, run, Full())


def test_rounded_inputs_are_refused_for_training() -> None:
    rounding = affine((8, 32), 8, 32, symmetric=True)
    object.__setattr__(rounding, "activation_bits", 8)

    for kind in (adapter(), adapter(IRQLoRA)):
        reason = kind.why_unsupported(rounding)
        assert reason is not None
        assert "rounded to 8 bits, and rounding has no gradient" in reason
