"""What a model takes to run in vLLM: the same prompts and tokens as elsewhere, by another engine.

The time to the first token is that of a request for one token; what a request for all of them
takes longer is decoding. No prompt is remembered from one to the next. vLLM reserves a share of the
GPU at once, whatever the model needs, so that memory says what it reserved.
"""

from typing import Protocol

import psutil

from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.machine.meters import device_memory, meter
from hubq.machine.progress import Progress
from hubq.records.report import Cost
from hubq.stages.evaluate.inference.greedy_decoding import Times, drawn_ids, spread
from hubq.stages.evaluate.inference.vllm_engine import Vllm, share_of_gpu, vllm
from hubq.stages.evaluate.task import Found, MeasuredModel


class Asked(Protocol):
    """What is to be generated, how often."""

    @property
    def title(self) -> str:
        """The task in a few words."""

    @property
    def batch(self) -> int:
        """Rows."""

    @property
    def prompt(self) -> int:
        """Tokens of a row."""

    @property
    def output(self) -> int:
        """Tokens of a row that are written."""

    @property
    def repetitions(self) -> int:
        """How often, beside the one that warms up."""


def found_by_vllm(measured: MeasuredModel, task: Asked, progress: Progress) -> Found:
    """Generate by vLLM, and say what that and the loading took."""
    from hubq.sources.shards import weight_bytes

    folder, share = measured.passes.folder, share_of_gpu()
    options = {
        "dtype": measured.dtype,
        "max_model_len": task.prompt + task.output,
        "gpu_memory_utilization": share,
        "enable_prefix_caching": False,
        "seed": 0,
    }
    with (
        progress.task(task.title, 1 + task.repetitions) as advance,
        vllm(folder, **options) as engine,
    ):
        loaded = _held(engine, measured.device)
        prompts = _prompts(measured, task)
        _run(engine, prompts, task.output)
        advance(1)
        joules, runs = meter(measured.device), []
        for _ in range(task.repetitions):
            runs.append(_run(engine, prompts, task.output))
            spent = joules() if joules else None
            advance(1)
        peak = max(loaded, _held(engine, measured.device))
        name = f"vLLM {engine.version}, {measured.dtype}"
    decoded = task.batch * (task.output - 1)
    tokens = task.batch * (1 + task.output) * task.repetitions  # of both requests of a run
    cost = Cost(
        weight_bytes=weight_bytes(folder),
        load_seconds=engine.load_seconds,
        memory_loaded=loaded,
        memory_peak=peak,
        first_token_seconds=spread([each.first for each in runs]),
        tokens_per_second=spread([decoded / each.rest for each in runs]),
        joules_per_token=None if spent is None else spent / tokens,
    )
    taking = f", up to {share:.0%} of the GPU" if measured.device == "cuda" else ""
    return Found(cost=cost, engine=name + taking)


def _prompts(measured: MeasuredModel, task: Asked) -> list[list[int]]:
    """Draw the prompts that a loaded model would get."""
    vocabulary = read_object(measured.passes.folder / "config.json")["vocab_size"]
    ids: list[list[int]] = drawn_ids(vocabulary, task.batch, task.prompt).tolist()
    return ids


def _run(engine: Vllm, prompts: list[list[int]], output: int) -> Times:
    """Decode greedily, exactly so many tokens a row."""
    exactly = {"temperature": 0.0, "ignore_eos": True}
    first = engine.write(prompts, max_tokens=1, **exactly).seconds
    both = engine.write(prompts, max_tokens=output, **exactly).seconds
    if both <= first:
        raise UserError(
            f"efficiency: vLLM wrote {output} tokens as fast as one, so that nothing can be said "
            "of its decoding; ask for a longer output"
        )
    return Times(first, both - first)


def _held(engine: Vllm, device: str) -> int:
    """Return the bytes of the GPU that are used, or those of vLLM's processes on a CPU."""
    if device == "cuda":
        memory = device_memory()
        return memory.total - memory.free
    own = psutil.Process(engine.process.pid)
    return sum(each.memory_info().rss for each in (own, *own.children(recursive=True)))
