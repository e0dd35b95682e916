"""What a plan says of a section `adapt`: what it makes, what it takes, and why it can't work."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import best_device, compute_dtype
from hubq.records.plan import Plan, PlannedAdaptation
from hubq.records.vocabulary import LONGEST_NAME
from hubq.sources.find import find
from hubq.stages.plan.adapting_memory import LEARNT, SCORED, Adapting, bytes_of
from hubq.stages.plan.memory import CONTEXT
from hubq.stages.plan.plan import estimate, plan
from hubq.stages.plan.readable import require_readable
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
PAIRS = {"file": "/nowhere/but/not/read.jsonl"}
TEXT = {"dataset": {"file": "/nowhere/but/not/read.txt"}, "samples": 4, "length": 32}
# Outputs and inputs of the linears of one of the two blocks of the tiny LLaMA.
LINEARS = [(64, 64), (32, 64), (32, 64), (64, 64), (128, 64), (128, 64), (64, 128)]
WEIGHTS = 2 * sum(out * columns for out, columns in LINEARS)


@pytest.fixture
def llama(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def adapted(name: str, **options: Any) -> dict[str, Any]:
    taught = {"dataset": PAIRS} if name != "low_rank" else {}
    rank = {"rank": 4} if name != "peqa" else {}
    return {"name": name, **taught, **rank, **options}


def recipe_of(folder: Path, adapt: dict[str, Any] | None, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "tiny",
        "model": {"folder": folder, "base_model": "acme/Tiny"},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "adapt": adapt,
        "publish": {"org": "me"},
    }
    return Recipe.model_validate(values | changes)


def planned(folder: Path, adapt: dict[str, Any] | None, **changes: Any) -> Plan:
    recipe = recipe_of(folder, adapt, **changes)
    return estimate(recipe, find(recipe.model, NOWHERE))


def adaptation(folder: Path, adapt: dict[str, Any], **changes: Any) -> PlannedAdaptation:
    found = planned(folder, adapt, **changes).adaptation
    assert found is not None
    return found


def refusal(folder: Path, adapt: dict[str, Any] | None, **changes: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        planned(folder, adapt, **changes)
    first, *lines = str(caught.value).splitlines()
    assert first == "this recipe can't work:"
    return [line.strip() for line in lines]


def test_a_recipe_without_the_section_plans_nothing_of_it(llama: Path) -> None:
    assert planned(llama, None).adaptation is None


def test_an_adapter_is_counted_by_hand(llama: Path) -> None:
    found = adaptation(llama, adapted("qlora"))

    entries = 2 * 4 * sum(out + columns for out, columns in LINEARS)
    assert (found.parameters, found.bytes) == (entries, 4 * entries)
    assert found.added_bits == pytest.approx(32 * entries / WEIGHTS)
    assert (found.name, found.makes) == ("qlora", "adapter")


def test_trained_scales_take_no_room_and_make_a_whole_model(llama: Path) -> None:
    plan = planned(llama, adapted("peqa"))

    found = plan.adaptation
    assert found is not None
    assert (found.parameters, found.added_bits) == (WEIGHTS // 32, 0)
    assert (found.makes, found.bytes) == ("checkpoint", plan.bytes)


def test_what_is_merged_is_a_model_of_16_bits(llama: Path) -> None:
    plan = planned(llama, adapted("qlora", merge=True))

    found = plan.adaptation
    assert found is not None
    assert (found.makes, found.bytes) == ("checkpoint", 2 * plan.parameters)
    assert found.added_bits == pytest.approx(16 - plan.linear_bits)


@pytest.mark.parametrize(
    ("adapt", "publish", "name"),
    [
        (adapted("qlora"), {}, "Tiny-RTN-4bit-QLoRA"),
        (adapted("ir_qlora"), {"name": "mine"}, "mine-IR-QLoRA"),
        (adapted("low_rank"), {}, "Tiny-RTN-4bit-low-rank-correction"),
        (adapted("peqa"), {}, "Tiny-RTN-4bit-PEQA"),
        (adapted("qlora", merge=True), {}, "Tiny-RTN-4bit-QLoRA-merged"),
        (adapted("qlora"), {"quantized": "them/Theirs-NF4@main"}, "Theirs-NF4-QLoRA"),
        (adapted("qlora"), {"adapted_name": "own"}, "own"),
        (adapted("qlora"), {"name": "x" * LONGEST_NAME}, "x" * (LONGEST_NAME - 6) + "-QLoRA"),
    ],
)
def test_the_repo_is_named_after_the_quantized_one_and_the_adapter(
    adapt: dict[str, Any], publish: dict[str, Any], name: str, llama: Path
) -> None:
    found = adaptation(llama, adapt, publish={"org": "me", **publish}, calibration=TEXT)

    assert found.repo == f"me/{name}"
    assert found.quantized == publish.get("quantized", f"me/{publish.get('name', 'Tiny-RTN-4bit')}")


def test_the_name_begins_as_the_license_asks(llama: Path) -> None:
    model = {"folder": llama, "base_model": "acme/Tiny", "license": "llama3.1"}

    found = adaptation(llama, adapted("qlora"), model=model)

    assert found.repo == "me/Llama-Tiny-RTN-4bit-QLoRA"
    with pytest.raises(UserError, match=r"publish\.adapted_name own: the license llama3\.1 asks"):
        planned(llama, adapted("qlora"), model=model, publish={"org": "me", "adapted_name": "own"})


def test_memory_is_counted_by_hand(llama: Path) -> None:
    options = {"batch_size": 4, "at_once": 2, "source_length": 24, "target_length": 8}
    adapt = adapted("qlora", **options)
    plan = planned(llama, adapt)

    found = Adapting(recipe_of(llama, adapt), plan, "bfloat16").memory(gpu=True)

    groups, tokens, labelled = WEIGHTS // 32, 2 * (24 + 8), 2 * 8
    codes = WEIGHTS // 2 + 2 * groups + groups // 2  # of 4 bits, scales of 16 and zeros of 4
    norms = 2 * 2 * 64 + 64
    resident = codes + 2 * (2 * 260 * 64 + norms)
    learnt = LEARNT * 2 * 4 * sum(out + columns for out, columns in LINEARS)
    inputs = 2 * tokens * 64 * 2
    block = tokens * 4 * sum(out + columns for out, columns in LINEARS) + 2 * 128 * 64
    scored = labelled * 260 * (4 + SCORED)
    assert found.device == CONTEXT + resident + learnt + inputs + max(block, scored)


def test_fewer_pairs_at_once_take_less_memory(llama: Path) -> None:
    whole, parts = (
        Adapting(recipe_of(llama, adapt), planned(llama, adapt), "bfloat16").memory(gpu=True)
        for adapt in (adapted("qlora"), adapted("qlora", at_once=1))
    )

    assert parts.device < whole.device


def test_a_start_from_a_correction_takes_the_memory_of_whichever_takes_more(llama: Path) -> None:
    long = TEXT | {"samples": 4096, "length": 512}
    start = adapted("qlora", start="low_rank", at_once=1)
    memory = {
        name: adaptation(llama, adapt, calibration=long).peak_memory
        for name, adapt in {
            "both": start,
            "training": adapted("qlora", at_once=1),
            "correcting": adapted("low_rank"),
        }.items()
    }

    assert memory["both"] == memory["correcting"] > memory["training"]


def test_a_sketch_in_memory_is_as_large_as_its_tensors(llama: Path) -> None:
    recipe = recipe_of(llama, None)
    sketch = recipe.method.sketch((64, 64), torch.bfloat16)

    assert bytes_of(sketch, packed=False) == 64 * 64 + 2 * 64 * 2 + 64 * 2
    assert bytes_of(sketch, packed=True) == 64 * 32 + 2 * 64 * 2 + 64


def test_the_model_runs_in_the_dtype_of_the_machine_though_its_method_reads_no_text(
    llama: Path,
) -> None:
    plan = planned(llama, adapted("qlora"))

    assert plan.compute_dtype is None
    assert plan.adaptation is not None
    assert plan.adaptation.compute_dtype == compute_dtype(best_device().type, "bfloat16")


def test_what_an_adapter_says_of_linears_names_them_once(llama: Path) -> None:
    billm = {"method": {"name": "billm"}, "format": "hubq", "calibration": TEXT}

    (line,) = refusal(llama, adapted("peqa"), **billm)

    assert line.startswith("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj (14")
    assert "PEQA trains the scales of integers" in line


def test_a_rank_beyond_a_linears_own_is_refused(llama: Path) -> None:
    (line,) = refusal(llama, adapted("qlora", rank=48))

    assert line.startswith("k_proj, v_proj (4 layers): adapt.rank 48 is more than")
    assert line.endswith("use 32 or less")


@pytest.mark.parametrize(
    ("adapt", "what"),
    [
        (adapted("low_rank"), "adapt.name low_rank needs calibration data"),
        (adapted("qlora", start="low_rank"), "adapt.start: low_rank needs calibration data"),
    ],
)
def test_what_reads_a_text_is_refused_without_one(
    adapt: dict[str, Any], what: str, llama: Path
) -> None:
    (line,) = refusal(llama, adapt)

    assert line.startswith(what)


@pytest.mark.parametrize(
    ("learnt", "measured"),
    [("hubq_siqa", "hubq_siqa"), ("hubq_bbq", "hubq_bbq_ambiguous")],
)
def test_a_task_is_not_both_learnt_from_and_measured(
    learnt: str, measured: str, llama: Path
) -> None:
    adapt = adapted("qlora", dataset={"tasks": ["hubq_logiqa", learnt]})

    (line,) = refusal(llama, adapt, evaluate={"tasks": ["hubq_piqa", measured]})

    assert line.startswith(f"evaluate.tasks: {measured}: the model learns from these items")


@pytest.mark.parametrize("merge", [True, "requantized"])
def test_a_whole_model_is_not_merged(merge: object, llama: Path) -> None:
    (line,) = refusal(llama, adapted("peqa", merge=merge))

    assert line.startswith("adapt.merge: peqa makes a whole model already")


@pytest.mark.parametrize(
    ("adapt", "publish", "what"),
    [
        (None, {"adapted_name": "x"}, "publish.adapted_name: nothing is adapted"),
        (None, {"adapter_of": "base"}, "publish.adapter_of: nothing is adapted"),
        (None, {"quantized": "a/b"}, "publish.quantized: nothing is adapted"),
        (adapted("peqa"), {"adapter_of": "base"}, "publish.adapter_of: peqa makes a whole model"),
        (
            adapted("qlora", merge=True),
            {"adapter_of": "base"},
            "publish.adapter_of: merge makes a whole model",
        ),
        (
            adapted("qlora"),
            {"adapter_of": "base", "quantized": "a/b"},
            "publish.quantized: an adapter of the base names no quantized repo",
        ),
        (
            adapted("qlora"),
            {"name": "one", "adapted_name": "one"},
            "publish.adapted_name: me/one is the quantized model's repo",
        ),
    ],
)
def test_publishing_without_sense_is_refused(
    adapt: dict[str, Any] | None, publish: dict[str, Any], what: str, llama: Path
) -> None:
    (line,) = refusal(llama, adapt, publish={"org": "me", **publish})

    assert line.startswith(what)


@pytest.mark.parametrize(
    ("adapt", "method", "what"),
    [
        (adapted("low_rank"), "rtn", "the adapter makes up for what quantizing lost"),
        (adapted("qlora", start="low_rank"), "rtn", "the adapter makes up for what quantizing"),
        (adapted("qlora"), "awq", "AWQ folds factors into norms and weights"),
    ],
)
def test_what_is_for_the_quantized_model_alone_is_no_adapter_of_the_base(
    adapt: dict[str, Any], method: str, what: str, llama: Path
) -> None:
    publish = {"org": "me", "adapter_of": "base"}
    changes = {"calibration": TEXT, "method": {"name": method, "group_size": 32}}

    (line,) = refusal(llama, adapt, publish=publish, **changes)

    assert line.startswith(f"publish.adapter_of: base: {what}")


def test_an_adapter_of_a_base_without_a_name_is_refused(llama: Path) -> None:
    publish = {"org": "me", "adapter_of": "base"}

    (line,) = refusal(llama, adapted("qlora"), model={"folder": llama}, publish=publish)

    assert line.startswith("publish.adapter_of: base: no Hub id of the base is known")


def test_all_that_is_wrong_is_said_at_once(llama: Path) -> None:
    adapt = adapted("qlora", rank=48, start="low_rank", dataset={"tasks": ["hubq_siqa"]})

    lines = refusal(
        llama,
        adapt,
        evaluate={"tasks": ["hubq_siqa"]},
        publish={"org": "me", "name": "one", "adapted_name": "one"},
    )

    assert len(lines) == 4


def test_requantizing_is_no_mistake(llama: Path) -> None:
    plan = planned(llama, adapted("qlora", merge="requantized"))

    assert plan.adaptation is not None
    assert plan.adaptation.bytes == plan.bytes


def test_pairs_longer_than_the_models_positions_are_refused(llama: Path) -> None:
    recipe = recipe_of(llama, adapted("qlora", source_length=500))

    with pytest.raises(UserError, match=r"adapt\.source_length and adapt\.target_length: 628 tok"):
        require_readable(recipe, find(recipe.model, NOWHERE), NOWHERE)


def test_a_correction_reads_a_text_that_the_method_does_not(llama: Path) -> None:
    recipe = recipe_of(llama, adapted("low_rank"), calibration=TEXT | {"length": 513})

    with pytest.raises(UserError, match=r"calibration\.length: 513 tokens"):
        require_readable(recipe, find(recipe.model, NOWHERE), NOWHERE)


def test_pairs_are_not_laid_out_by_a_template_that_is_not_there(
    llama: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    (folder / "chat_template.jinja").unlink()
    recipe = recipe_of(folder, adapted("qlora", template="chat"))

    with pytest.raises(UserError, match=r"adapt\.template: chat: .* has no chat template"):
        require_readable(recipe, find(recipe.model, NOWHERE), NOWHERE)


def test_pairs_that_are_not_there_are_refused_before_anything_is_counted(
    llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"there is no file /nowhere/but/not/read\.jsonl"):
        plan(recipe_of(llama, adapted("qlora")), tmp_path, NOWHERE)
