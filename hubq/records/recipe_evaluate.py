"""What a recipe measures of its result and the base, and what it requires."""

from typing import Literal

from pydantic import Field, model_validator

from hubq.machine.device import Dtype
from hubq.records.recipe_inputs import DatasetSection
from hubq.records.record import AsWritten, Record


class PerplexitySection(AsWritten, Record):
    """Perplexity over non-overlapping windows of one text."""

    dataset: DatasetSection
    length: int = Field(2048, ge=2, description="tokens per window")
    windows: int | None = Field(
        None, ge=1, description="how many of the first windows; default: all, for c4 524,288 tokens"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `perplexity: [wikitext2, c4]`."""
        return {"dataset": value} if isinstance(value, str) else value


class TaskSection(AsWritten, Record):
    """A task of lm-eval or of hubq."""

    name: str
    shots: int | None = Field(
        None, ge=0, description="examples in the prompt; default: the task's own number"
    )
    chat_template: bool = Field(False, description="format prompts with the chat template")

    @model_validator(mode="before")
    @classmethod
    def _from_one_word(cls, value: object) -> object:
        """Read `tasks: [piqa, arc_easy]`."""
        return {"name": value} if isinstance(value, str) else value


class FidelitySection(AsWritten, Record):
    """Next-token distributions compared with the base's, on the first text of `perplexity`."""

    windows: int = Field(40, ge=1, description="at most this many of the text's first windows")


class EfficiencySection(AsWritten, Record):
    """Time and memory that generating takes; defaults depend on the device."""

    batch: int = Field(1, ge=1, description="rows generated together")
    prompt: int | None = Field(
        None, ge=1, description="tokens before the output: 256 on a GPU, 64 on a CPU"
    )
    output: int | None = Field(
        None, ge=2, description="tokens to generate: 512 on a GPU, 32 on a CPU"
    )
    repetitions: int = Field(3, ge=1)


class RequireSection(AsWritten, Record):
    """Budgets: a result that misses one of them is not published."""

    recovery: float | None = Field(
        None, gt=0, le=1, description="smallest share of the base's mean accuracy, such as 0.98"
    )
    perplexity_ratio: float | None = Field(
        None, ge=1, description="largest ratio of a perplexity to the base's, on any text"
    )
    divergence: float | None = Field(None, gt=0, description="largest mean KL divergence, in nats")
    stored_bits: float | None = Field(
        None, gt=0, description="most stored bits per weight of the quantized linears"
    )


Engine = Literal["transformers", "vllm"]


class EvaluateSection(AsWritten, Record):
    """What to measure on the base and the result."""

    perplexity: tuple[PerplexitySection, ...] = ()
    tasks: tuple[TaskSection, ...] = Field(
        (), description="tasks by name: lm-eval's, hubq's, and those on pictures"
    )
    limit: int | None = Field(
        None, ge=1, description="items per task, of each member of a group; default: all"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1)
    dtype: Dtype | None = Field(
        None, description="dtype that base and result run in; default: the machine's fastest"
    )
    engine: Engine = Field(
        "transformers",
        description="what speed is measured with and tasks' texts are written by; vllm: the vLLM "
        "of the python that HUBQ_VLLM_PYTHON names",
    )
    fidelity: FidelitySection | None = FidelitySection()
    efficiency: EfficiencySection | None = EfficiencySection()
    require: RequireSection = RequireSection()


LENGTHS = {"cuda": (256, 512), "cpu": (64, 32)}  # tokens of prompt and output; a GPU's: the study's


def lengths(section: EfficiencySection, device: str) -> tuple[int, int]:
    """Return the tokens of prompt and output: those asked for, else what suits the device."""
    prompt, output = LENGTHS[device]
    return section.prompt or prompt, section.output or output
