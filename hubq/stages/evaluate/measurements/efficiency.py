"""What a loaded model takes to run: seconds, memory and joules, in the process that holds it."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hubq.errors import UserError
from hubq.machine.meters import Contention, meter, peak, reserved_peak
from hubq.machine.progress import SILENT, Progress
from hubq.records.recipe_evaluate import Engine
from hubq.records.report import Cost, Decoding
from hubq.stages.evaluate.inference.greedy_decoding import (
    Times,
    decoded,
    drawn_prompts,
    spread,
    timed,
)
from hubq.stages.evaluate.inference.static_decoding import (
    StaticDecoder,
    busy_seconds,
    static_decoder,
)
from hubq.stages.evaluate.task import Found, MeasuredModel, Task

if TYPE_CHECKING:
    from torch import Tensor


class EfficiencyTask(Task):
    """Time and memory of generating, in a process that does nothing else."""

    kind: Literal["efficiency"] = "efficiency"
    protocol_version: ClassVar = 3
    alone: ClassVar = True

    batch: int
    prompt: int  # tokens a row
    output: int  # tokens a row
    repetitions: int
    hardware: str  # a cache may be shared by machines
    beside: str  # digest of the model that it is compared with: both are measured in one run
    engine: Engine = "transformers"

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"{self.output} tokens after {self.prompt}"

    @property
    def loads_itself(self) -> bool:
        """Whether an engine of its own loads the model."""
        return self.engine != "transformers"

    @property
    def writes(self) -> bool:
        """Writing is what it times."""
        return True

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Generate, and say what that and the loading took."""
        if self.engine == "vllm":
            from hubq.stages.evaluate.vllm_costs import found_by_vllm

            return found_by_vllm(model, self, progress)
        return Found(cost=cost(model, self, progress), engine=engine(model))


def cost(measured: MeasuredModel, task: EfficiencyTask, progress: Progress = SILENT) -> Cost:
    """Generate with a loaded model and say what that took."""
    from hubq.sources.shards import weight_bytes

    model, folder = measured.passes.model, measured.passes.folder
    _require_room(model, task)
    device = model.device.type
    decoder = Decoder(model, task)
    with progress.task(task.title, 1 + task.repetitions) as advance:
        decoder.run()  # kernels are chosen, memory is taken
        advance(1)
        joules, contention, runs = meter(device), Contention(), []
        for _ in range(task.repetitions):
            runs.append(decoder.run())
            spent = joules() if joules else None
            advance(1)
    tokens = task.batch * task.output * task.repetitions
    rest = [each.rest / (task.output - 1) for each in runs]  # seconds a step
    return Cost(
        weight_bytes=weight_bytes(folder),
        load_seconds=measured.load_seconds,
        memory_loaded=measured.memory_loaded,
        # The kernel counts to some pages only.
        memory_peak=max(peak(device), measured.memory_loaded),
        memory_reserved=reserved_peak(device),
        memory_host=None if device == "cpu" else peak("cpu"),
        first_token_seconds=spread([each.first for each in runs]),
        tokens_per_second=spread([task.batch / step for step in rest]),
        joules_per_token=None if spent is None else spent / tokens,
        decoding=decoder.told(median(rest)),
        contention=contention.share(sum(each.first + each.rest for each in runs)),
    )


class Decoder:
    """A loaded model that decodes again and again, on a GPU by replaying a recorded step."""

    def __init__(self, model: Any, task: EfficiencyTask) -> None:  # noqa: ANN401
        self._model, self._output = model, task.output
        self._prompts = drawn_prompts(model, task.batch, task.prompt)
        self._static: StaticDecoder | str | None = None  # or why there is none; None: no GPU
        if model.device.type == "cuda":
            self._static = static_decoder(model, self._prompts, task.output)

    def run(self) -> Times:
        """Decode greedily, exactly `output` tokens a row."""
        return timed(self._steps(), self._output, self._model.device.type)

    def told(self, step_seconds: float) -> Decoding | None:
        """Say how a step ran that took so long; None where there is no GPU."""
        if self._static is None:
            return None
        reason = self._static if isinstance(self._static, str) else None
        busy = busy_seconds(self._steps(), self._model.device.type)
        return Decoding(
            graph=reason is None, reason=reason, step_seconds=step_seconds, busy_seconds=busy
        )

    def _steps(self) -> "Iterator[Tensor]":
        if isinstance(self._static, StaticDecoder):
            return self._static.decoded(self._prompts)
        return decoded(self._model, self._prompts)


def engine(measured: MeasuredModel) -> str:
    """Name what runs a model."""
    import torch
    import transformers

    threads = torch.get_num_threads()
    on = f", {threads} thread{'s' if threads > 1 else ''}" if measured.device == "cpu" else ""
    return f"transformers {transformers.__version__}, {measured.dtype}{on}"


def _require_room(model: Any, task: EfficiencyTask) -> None:  # noqa: ANN401
    """Raise UserError where prompt and output are longer than what the model was made for."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and task.prompt + task.output > longest:
        raise UserError(
            f"efficiency: a prompt of {task.prompt} and an output of {task.output} tokens are "
            f"longer than the {longest} positions of {model.config.name_or_path}; ask for less"
        )
