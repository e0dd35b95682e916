"""What is said of engines: as engines.json has it, and by their sources where it has nothing."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from made_release import GROUP, sound
from made_run import made_plan, made_report

from hubq.errors import UserError
from hubq.records.engine_tests import Attempt, Engine, EngineTests, Layout, Numbers
from hubq.stages.card.metadata import tags
from hubq.stages.card.sections.usage import table
from hubq.stages.lint.findings import LLAMA_CPP, SGLANG, VLLM
from hubq.stages.lint.lint import lint, loading
from hubq.stages.lint.serving import FILE, Stored, engine_tests, serving

LLAMA = "LlamaForCausalLM"
W4 = Layout(format="compressed-tensors", bits=4, group_size=64, symmetric=True)
SAID = "ValueError: Failed to find a kernel"
Try = Callable[..., None]


def numbers(**changes: Any) -> Numbers:
    values = {"distance": 0.09, "noise": 0.1, "written": 128, "equal": 127, "gap": 0.01}
    return Numbers(**(values | changes))


def attempt(layout: Layout, outcome: str = "right") -> Attempt:
    said = SAID if outcome == "refused" else None
    return Attempt.model_validate(
        {
            "layout": layout,
            "model": "a model",
            "dtype": "bfloat16",
            "outcome": outcome,
            "said": said,
            "numbers": None if said else numbers(),
        }
    )


def engine(*tests: Attempt, name: str = VLLM, device: str = "CPU") -> Engine:
    return Engine.model_validate(
        {
            "name": name,
            "version": "0.32.0",
            "device": device,
            "machine": "cpu",
            "date": date(2026, 12, 1),
            "tests": tests,
        }
    )


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Let engines have been tried with this outcome."""
    file = tmp_path / "engines.json"
    monkeypatch.setattr("hubq.stages.lint.serving.FILE", file)
    return lambda *engines: EngineTests(engines=engines).save(file)


def test_what_was_right_is_tested_with_version_device_and_date(tried: Try) -> None:
    tried(engine(attempt(W4)))

    assert serving(VLLM, Stored(LLAMA, (W4,))) == (
        True,
        "tested with vLLM 0.32.0 on a CPU, 2026-12-01",
    )
    assert serving(SGLANG, Stored(LLAMA, (W4,))) == (True, "by its sources")


@pytest.mark.parametrize(
    "change",
    [
        {"group_size": 128},
        {"symmetric": False},
        {"bits": 8},
        {"activation_bits": 8},
        {"format": "gptq"},
    ],
)
def test_only_exactly_what_was_tried_is_tested(tried: Try, change: dict[str, object]) -> None:
    tried(engine(attempt(W4)))

    assert "tested" not in serving(VLLM, Stored(LLAMA, (W4.model_copy(update=change),))).known


@pytest.mark.parametrize("outcome", ["refused", "wrong"])
@pytest.mark.parametrize("group_size", [64, 128])  # the second was not tried
def test_what_fails_on_a_cpu_is_not_said_to_load(tried: Try, outcome: str, group_size: int) -> None:
    tried(engine(attempt(W4, outcome)))

    found = serving(VLLM, Stored(LLAMA, (W4.model_copy(update={"group_size": group_size}),)))

    assert found.loads is None
    assert ("fails with" in found.known) == (outcome == "refused")
    assert found.known.endswith("on a GPU by its sources")


def test_other_groups_are_not_doubted_where_some_are_right(tried: Try) -> None:
    wide = W4.model_copy(update={"group_size": 128})
    tried(engine(attempt(W4, "refused"), attempt(wide)))

    narrow = W4.model_copy(update={"group_size": 32})
    assert serving(VLLM, Stored(LLAMA, (narrow,))) == (True, "by its sources")


def test_what_fails_on_a_gpu_does_not_load(tried: Try) -> None:
    tried(engine(attempt(W4, "refused"), device="GPU"))

    assert serving(VLLM, Stored(LLAMA, (W4,))).loads is False


def test_an_engine_that_converts_files_fails_everywhere(tried: Try) -> None:
    tried(engine(attempt(W4, "refused"), name=LLAMA_CPP))

    found = serving(LLAMA_CPP, Stored(LLAMA, (W4,)))

    assert found == (False, f"fails with llama.cpp 0.32.0 on a CPU, 2026-12-01: {SAID}")


def test_what_is_right_on_one_device_alone_is_not_known_elsewhere(tried: Try) -> None:
    tried(engine(attempt(W4)), engine(attempt(W4, "wrong"), device="GPU"))

    found = serving(VLLM, Stored(LLAMA, (W4,)))

    assert found.loads is None
    assert found.known.startswith("tested with vLLM 0.32.0 on a CPU, 2026-12-01; answers otherwise")


def test_several_layouts_in_one_file_were_never_tried(tried: Try) -> None:
    eight = W4.model_copy(update={"bits": 8})
    tried(engine(attempt(W4), attempt(eight)))

    assert serving(VLLM, Stored(LLAMA, (W4, eight))) == (True, "by its sources")


def test_one_layout_that_fails_is_enough(tried: Try) -> None:
    eight = W4.model_copy(update={"bits": 8})
    tried(engine(attempt(W4), attempt(eight, "refused")))

    assert serving(VLLM, Stored(LLAMA, (W4, eight))).loads is None


@pytest.mark.usefixtures("nothing_tried")
def test_an_architecture_that_no_rule_is_about_is_not_known() -> None:
    found = serving(VLLM, Stored("LlavaForConditionalGeneration", (W4,)))

    assert found == (None, "not known: no rule is about LlavaForConditionalGeneration")


def test_lint_plan_and_card_say_the_same(tried: Try, tmp_path: Path) -> None:
    layout = W4.model_copy(update={"group_size": GROUP})
    tried(engine(attempt(layout, "refused")), engine(attempt(layout), name=SGLANG))
    plan = made_plan()
    plan.recipe["method"] |= {"name": "rtn", "group_size": GROUP, "symmetric": True}
    del plan.recipe["method"]["damping"]

    verdict = lint(sound(tmp_path / "model").write())
    vllm, sglang = (one for one in table(made_report(plan=plan)) if one.name in (VLLM, SGLANG))

    assert (verdict.loads(VLLM), vllm.mark) == (None, "?")
    assert (verdict.loads(SGLANG), sglang.mark) == (True, "✓")
    assert vllm.known == verdict.known(VLLM)
    assert sglang.known == f"{verdict.known(SGLANG)}; not run on this model"
    assert dict(loading(verdict))[VLLM] == f"not known ({vllm.known})"
    assert {"vllm", "sglang"} & {*tags(plan)} == {"sglang"}


def test_a_damaged_file_is_refused_and_none_means_that_nothing_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubq.stages.lint.serving.FILE", tmp_path / "none.json")
    assert engine_tests() == EngineTests()

    (tmp_path / "bad.json").write_text('{"engines": [{"name": "vLLM"}]}')
    monkeypatch.setattr("hubq.stages.lint.serving.FILE", tmp_path / "bad.json")
    with pytest.raises(UserError, match="does not hold a EngineTests"):
        engine_tests()


@pytest.mark.parametrize(
    "damage",
    [
        {"version": None},
        {"absent": "no GPU"},
        {"tests": [{**attempt(W4).model_dump(), "numbers": None}]},
        {"tests": [{**attempt(W4).model_dump(), "said": SAID}]},
        {"tests": [{**attempt(W4).model_dump(), "outcome": "refused"}]},
    ],
)
def test_results_that_contradict_themselves_are_refused(damage: dict[str, object]) -> None:
    good = engine(attempt(W4)).model_dump()

    assert EngineTests.model_validate({"engines": [good]})
    with pytest.raises(ValueError, match=r"says goes|numbers go|is absent"):
        EngineTests.model_validate({"engines": [good | damage]})


def test_what_make_engines_found_is_readable() -> None:
    assert FILE.exists()
    assert {each.name for each in engine_tests().engines} == {VLLM, SGLANG, LLAMA_CPP}
