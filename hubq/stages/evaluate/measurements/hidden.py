"""Keep the last hidden states over a text: with the head, all next-token distributions."""

from pathlib import Path
from typing import ClassVar, Literal

from hubq.machine.progress import Progress
from hubq.stages.evaluate.distributions import hidden_states
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.task import Found, MeasuredModel, TextTask, states_file


class HiddenTask(TextTask):
    """Keep the last hidden states over the first windows of a text."""

    kind: Literal["hidden"] = "hidden"
    protocol_version: ClassVar = 3

    windows: int  # at most
    precision: str | None = None  # the dtype that the model runs in; None: the job's

    @property
    def title(self) -> str:
        """The task in a few words, for progress bars."""
        return f"distributions on {self.dataset}"

    @property
    def most(self) -> int:
        """How many windows it reads at most."""
        return self.windows

    def runs_in(self, dtype: str) -> bool:
        """Tell whether it is carried out with a model that was loaded in a dtype."""
        return self.precision in (None, dtype)

    def carry_out(self, model: MeasuredModel, outcome: Path, progress: Progress) -> Found:
        """Write the states beside the outcome, in the dtype that is asked for."""
        from hubq.stages.evaluate.inference.loading import load

        passes = model.passes
        if not self.runs_in(model.dtype):
            assert self.precision is not None
            exact = load(
                passes.folder,
                device=model.device,
                dtype=self.precision,
                by_blocks=model.by_blocks,
            )
            passes = Passes(exact.model, passes.folder)
        hidden_states(passes, self, states_file(outcome), progress)
        return Found()
