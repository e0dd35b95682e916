"""What a model takes to run: exact counts, plausible figures, and a base of the same run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from progress_recorder import Recorder
from quantized_folder import Choice, write

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.device import device_title
from hubq.records.recipe_evaluate import EfficiencySection, lengths
from hubq.records.report import Cost, Efficiency, Interval
from hubq.sources.shards import weight_bytes
from hubq.stages.evaluate.efficiency import efficiency
from hubq.stages.evaluate.inference.greedy_decoding import decoded, drawn_prompts, timed
from hubq.stages.evaluate.jobs import Job
from hubq.stages.evaluate.measure import Machine, Pair, content_of, outcome_file
from hubq.stages.evaluate.measurements.efficiency import EfficiencyTask, cost
from hubq.stages.evaluate.task import MeasuredModel, Outcome
from hubq.stages.evaluate.worker import measured_model, timed_load
from hubq.tensors import Grid

SECTION = EfficiencySection(batch=2, prompt=8, output=5, repetitions=2)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, GPU])]


def task(**changes: Any) -> EfficiencyTask:
    values = SECTION.model_dump() | {"hardware": "", "beside": ""}
    return EfficiencyTask(**values | changes)


def loading(folder: Path, device: str = "cpu") -> MeasuredModel:
    job = Job(folder=folder, device=device, dtype="bfloat16", orders=())
    return measured_model(timed_load(job), job)


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3.2")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> MeasuredModel:
    return loading(folder)


def steps_of(model: Any, generating: Callable[[], object]) -> list[tuple[int, ...]]:
    """Return the shapes of the token ids that a model is given meanwhile."""
    shapes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda module, arguments, named: shapes.append(tuple(named["input_ids"].shape)),
        with_kwargs=True,
    )
    generating()
    hook.remove()
    return shapes


def test_each_token_of_output_is_one_step_after_the_prompts(loaded: MeasuredModel) -> None:
    model = loaded.passes.model
    prompts = drawn_prompts(model, 3, 8)

    shapes = steps_of(model, lambda: timed(decoded(model, prompts), 5, "cpu"))

    assert shapes == [(3, 8), (3, 1), (3, 1), (3, 1), (3, 1)]


def test_the_tokens_are_those_of_greedy_generation(loaded: MeasuredModel) -> None:
    model = loaded.passes.model
    prompts = drawn_prompts(model, 2, 8)
    expected = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=6, do_sample=False
    )[:, 8:]

    steps = decoded(model, prompts)
    found = torch.cat([next(steps) for _ in range(6)], dim=1)

    assert torch.equal(found, expected)


def test_prompts_are_the_same_for_base_and_result(loaded: MeasuredModel) -> None:
    model = loaded.passes.model

    assert torch.equal(drawn_prompts(model, 2, 8), drawn_prompts(model, 2, 8))


def test_the_first_run_only_warms_up(loaded: MeasuredModel, folder: Path) -> None:
    shapes = steps_of(loaded.passes.model, lambda: cost(loaded, task(repetitions=3)))

    assert shapes.count((2, 8)) == 1 + 3


@pytest.mark.parametrize("device", DEVICES)
def test_costs_are_plausible(device: str, folder: Path) -> None:
    found = cost(loading(folder, device), task())

    assert found.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert found.load_seconds > 0
    assert found.memory_peak >= found.memory_loaded > found.weight_bytes / 2
    for each in (found.first_token_seconds, found.tokens_per_second):
        assert each.low is not None
        assert each.high is not None
        assert 0 < each.low <= each.value <= each.high


def test_rates_are_of_all_rows(loaded: MeasuredModel, folder: Path) -> None:
    alone = cost(loaded, task(batch=1, output=20, repetitions=5))
    together = cost(loaded, task(batch=64, output=20, repetitions=5))

    assert together.tokens_per_second.value > 4 * alone.tokens_per_second.value


def test_all_shards_count(folder: Path, tmp_path: Path) -> None:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    (tmp_path / "adapter.safetensors").write_bytes(b"stray")

    shards = list(tmp_path.glob("model-*.safetensors"))

    assert len(shards) > 1
    assert weight_bytes(tmp_path) == sum(each.stat().st_size for each in shards)


def test_more_tokens_than_the_model_has_positions_are_refused(
    loaded: MeasuredModel, folder: Path
) -> None:
    with pytest.raises(UserError, match=r"of 500 and an output of 20 tokens .* the 512 positions"):
        cost(loaded, task(prompt=500, output=20))


def test_lengths_suit_the_device_where_none_are_asked_for() -> None:
    assert lengths(EfficiencySection(), "cuda") == (256, 512)  # as in the study
    assert lengths(EfficiencySection(), "cpu") == (64, 32)
    assert lengths(EfficiencySection(output=9), "cpu") == (64, 9)


SOME = Interval(value=1, low=1, high=1)
MADE_UP = Cost(
    weight_bytes=1,
    load_seconds=1,
    memory_loaded=1,
    memory_peak=1,
    first_token_seconds=SOME,
    tokens_per_second=SOME,
)


def plant(pair: Pair, folder: Path) -> Path:
    """Put a made-up cost of one of a pair where a measured one would lie."""
    beside = content_of(pair.base if folder == pair.result else pair.result)
    asked = task(hardware=device_title(torch.device("cpu")), beside=beside)
    file = outcome_file(folder, asked, pair.where)
    Outcome(cost=MADE_UP, engine="made up", loader="", seconds=0).save(file)
    return file


class Measured(NamedTuple):
    """What one run of the stage had and gave."""

    pair: Pair
    older: Pair  # of the same base: both of its costs are known, and made up
    left_alone: Path  # where the base's cost lay without the result's, made up
    cache: Path
    progress: Recorder
    efficiency: Efficiency

    def again(self, **changes: Any) -> tuple[Efficiency, list[str]]:
        """Measure once more; return what came out, and the titles of what was done."""
        progress = Recorder()
        pair = self.pair._replace(progress=progress, **changes)
        return efficiency(pair, SECTION), progress.titles


# Two workers: some seconds.
@pytest.fixture(scope="module")
def first(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    root, progress = tmp_path_factory.mktemp("efficiency"), Recorder()
    choice = Choice(format_named("compressed-tensors"), Grid(bits=4, group_size=32))
    write(folder, root / "result", choice)
    shutil.copytree(root / "result", root / "older")
    (root / "older" / "more.json").write_text("{}")
    pair = Pair(root / "result", folder, Machine("cpu", "bfloat16"), Client(), progress)
    older = pair._replace(result=root / "older")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBQ_CACHE", str(root / "cache"))
        for each in (older.result, older.base):
            plant(older, each)
        left_alone = plant(pair, pair.base)
        found = efficiency(pair, SECTION)
    return Measured(pair, older, left_alone, root / "cache", progress, found)


@pytest.fixture
def measured(first: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    """Return the measurement with a copy of its cache."""
    shutil.copytree(first.cache, tmp_path / "copy")
    monkeypatch.setenv("HUBQ_CACHE", str(tmp_path / "copy"))
    return first


def test_the_record_says_what_ran_where(first: Measured) -> None:
    found = first.efficiency

    assert (found.batch, found.prompt, found.output, found.repetitions) == (2, 8, 5, 2)
    assert found.engine.startswith("transformers 5.")
    assert ", bfloat16, " in found.engine
    assert found.engine.endswith((" thread", " threads"))
    assert found.hardware
    assert "thread" not in found.hardware


def test_result_and_base_run_one_after_the_other_in_their_own_processes(first: Measured) -> None:
    assert first.progress.titles == [
        "quantized: load",
        "quantized: 5 tokens after 8",
        "base: load",
        "base: 5 tokens after 8",
    ]
    assert first.progress.steps == first.progress.totals


def test_a_quantized_result_takes_less_on_the_disk(first: Measured) -> None:
    found = first.efficiency

    assert found.result.weight_bytes < found.base.weight_bytes
    assert isinstance(found.result, Cost)


def test_what_was_measured_of_both_is_not_measured_again(measured: Measured) -> None:
    again, done = measured.again()

    assert again == measured.efficiency
    assert done == []


def test_a_cost_that_a_killed_run_left_alone_is_measured_again(first: Measured) -> None:
    assert first.efficiency.base.load_seconds != MADE_UP.load_seconds
    assert Outcome.load(first.left_alone).cost == first.efficiency.base


def test_a_base_is_measured_again_beside_another_result(measured: Measured) -> None:
    known, done = measured.again(result=measured.older.result)

    assert (known.result, known.base, done) == (MADE_UP, MADE_UP, [])
    assert measured.efficiency.base.load_seconds != MADE_UP.load_seconds
