"""`make engines` without engines: transformers answers in their place, and faults are told."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from engines.__main__ import Trial, merged, one_case
from engines.asking import asked
from engines.cases import Case, cases, symmetric
from engines.comparison import Reference, compare, is_right, reference, scores
from engines.environments import HERE, KINDS, Environment
from engines.padded import UNIT, fill_up
from engines.page import PAGE, tables

from hubq.errors import UserError
from hubq.records.engine_tests import ENGINES, Engine
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.lint.serving import engine_tests

PROMPTS = [list(range(20, 60)), list(range(90, 130))]
SCRIPT = """
import os
import sys

sys.path.append({place!r})
from answering import serve


def answer(asked):
    if asked["prompts"] == "crash":
        os.abort()
    if asked["prompts"] == "refuse":
        raise ValueError("no kernel")
    print("what libraries print")
    return {{"written": asked["prompts"]}}


print("a banner")
serve(answer, "1.2.3")
"""


class Transformers:
    """transformers in bfloat16, asked as engines are."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        model = load(Path(request["model"]), device="cpu", dtype=request["dtype"]).model
        prompts = request["prompts"]
        return {
            "written": [self._write(model, each, request["new"]) for each in prompts],
            "scored": scores(model, prompts),
        }

    def _write(self, model: Any, prompt: Sequence[int], new: int) -> list[int]:
        options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        found = model.generate(torch.tensor([prompt]), pad_token_id=0, **options)
        return [*found[0, len(prompt) :].tolist()]


class Refusing:
    """An engine without the kernel."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        raise UserError(f"{request['model']}: no kernel\nfor that")


def an_engine(name: str = "vLLM", **changes: object) -> Engine:
    ran = {"version": "1", "device": "CPU", "machine": "cpu"}
    return Engine.model_validate({"name": name, "date": date(2026, 12, 1), **ran, **changes})


def trial(process: Any) -> Trial:
    return Trial(KINDS[0], Environment(Path("nowhere")), process, an_engine())


@pytest.fixture(scope="module")
def base(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3-8b")


def test_an_engine_s_answers_are_kept_and_a_refusal_in_its_words(base: Path) -> None:
    right, refusing = trial(Transformers()), trial(Refusing())
    case = Case("compressed-tensors", symmetric(4, 64))

    one_case(case, base, [right, refusing])

    (found,), (refused,) = right.found.tests, refusing.found.tests
    assert (found.outcome, found.layout) == ("right", case.layout)
    assert found.numbers is not None
    assert found.numbers.written == 4 * 32
    assert 0 < found.numbers.distance == pytest.approx(found.numbers.noise)
    assert (refused.outcome, refused.said) == ("refused", "/model: no kernel for that")
    assert right.has(case)
    assert not right.has(Case("compressed-tensors", symmetric(4, 32)))


@pytest.fixture(scope="module")
def wanted(base: Path) -> Reference:
    return reference(base, PROMPTS, "bfloat16")


def test_likelihoods_that_the_dtype_does_not_explain_are_wrong(wanted: Reference) -> None:
    best = [[int(wanted.model(torch.tensor([p])).logits[0, -1].argmax())] for p in PROMPTS]
    off = [[each + 3 * wanted.noise for each in row] for row in wanted.scored]

    assert is_right(compare(wanted, best, wanted.scored))
    assert not is_right(compare(wanted, best, off))
    loud = wanted._replace(noise=2.0)
    assert not is_right(
        compare(loud, best, [[each + 1.5 for each in row] for row in wanted.scored])
    )
    nothing = [[float("nan")] * len(row) for row in wanted.scored]
    with pytest.raises(ValueError, match="finite"):
        compare(wanted, best, nothing)


def test_a_token_is_wrong_unless_it_is_nearly_as_likely(wanted: Reference) -> None:
    worst = [[int(wanted.model(torch.tensor([p])).logits[0, -1].argmin())] for p in PROMPTS]
    last = compare(wanted, worst, wanted.scored)

    assert (last.written, last.equal) == (2, 0)
    assert not is_right(last)
    near = last.model_copy(update={"gap": 7 * last.noise})
    assert is_right(near)


def test_a_process_answers_refuses_and_outlives_a_crash(tmp_path: Path) -> None:
    script = tmp_path / "answer.py"
    script.write_text(SCRIPT.format(place=str(HERE)))

    with asked(Path(sys.executable), script, tmp_path / "log") as process:
        assert process.version == "1.2.3"
        for prompts, said in (("refuse", "ValueError: no kernel"), ("crash", "by signal 6")):
            with pytest.raises(UserError, match=said):
                process.ask({"prompts": prompts})
        assert process.ask({"prompts": [[1, 2]]}) == {"written": [[1, 2]]}
    assert process.process.poll() is not None


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    script = tmp_path / "answer.py"
    script.write_text("raise ImportError('no such library')")

    with (
        pytest.raises(UserError, match="it ended: ImportError: no such library"),
        asked(Path(sys.executable), script, tmp_path / "log"),
    ):
        pass


def test_zeros_around_a_model_leave_it_the_same_function(base: Path, tmp_path: Path) -> None:
    fill_up(base, tmp_path / "wide")

    config = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert config["hidden_size"] % UNIT == config["intermediate_size"] % UNIT == 0
    assert config["num_attention_heads"] * config["head_dim"] % UNIT == 0
    tokens = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        narrow, wide = (
            load(each, device="cpu", dtype="float32").model(tokens).logits
            for each in (base, tmp_path / "wide")
        )
    torch.testing.assert_close(wide, narrow, rtol=0, atol=0.01 * float(narrow.std()))


def test_each_engine_and_each_layout_stands_once() -> None:
    layouts = [each.layout for each in cases()]

    assert len({*layouts}) == len(layouts)
    assert {each.name for each in KINDS} == {*ENGINES}
    assert all((HERE / kind.script).is_file() for kind in KINDS)


def test_what_was_found_elsewhere_is_kept() -> None:
    gpu, old, new = an_engine(device="GPU"), an_engine(), an_engine(version="2")
    gone = Engine(name="vLLM", date=date(2026, 12, 2), absent="no AVX512")

    first = merged(merged(merged(type(engine_tests())(), [gone]), [gpu, old]), [new, gone])

    assert first.engines == (gpu, new)


def test_the_page_s_tables_are_those_of_the_file() -> None:
    assert PAGE.read_text().endswith(tables(engine_tests()))
