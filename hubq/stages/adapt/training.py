"""Gradient descent on instruction pairs: AdamW, a rate that grows and stays, gradients clipped.

Everything that is trained is float32, with both of its moments; the model runs in its own dtype, a
block at a time recomputed where its gradients pass. Each step is a function of the parameters, the
moments, the seed and its own number: so a killed training goes on from the last kept state, and
ends with the same bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hubq.errors import UserError
from hubq.machine.files import require_space
from hubq.machine.progress import Progress
from hubq.methods.adapters import TrainedAdapter
from hubq.methods.adapters.branches.lora import Branch
from hubq.records.adaptation import Curve, HeldOut
from hubq.records.report import CONFIDENCE, Interval
from hubq.stages.adapt.batches import Order, pieces, rows
from hubq.stages.adapt.objective import backward, mean_losses
from hubq.stages.quantize.resuming import Keeper, States

if TYPE_CHECKING:
    from hubq.sources.instructions.tokens import Examples

BETAS = (0.9, 0.999)
POINTS = 100  # of a curve, at most
LOOKS = 10  # at the held-out pairs on the way, at most
SHARE = 0.1  # of the time that these looks may take
LOOK = "held-out pairs after step "  # begins the names of their losses in a state
MOMENTS = ("exp_avg", "exp_avg_sq")  # as AdamW calls them
STATE = 6  # times the parameters: two states, each with two moments
PASSES = 3  # forward passes that a step on a pair takes, about


class Trained(NamedTuple):
    """How a training went; its parameters are where they were."""

    curve: Curve
    held_out: HeldOut | None  # None: all pairs were trained on
    seconds: float


def train(  # noqa: PLR0913 - a training is of all of these
    model: Any,  # noqa: ANN401 - of transformers
    parameters: Mapping[str, nn.Parameter],
    examples: "Examples",
    adapter: TrainedAdapter,
    folder: Path,
    progress: Progress,
) -> Trained:
    """Train the parameters (float32, of the model) in place, or go on from a state in a folder.

    The folder is of this very training: of a model, pairs and options that have not changed. Raises
    UserError where the loss is no number, or the disk has no room for states.
    """
    kept = sum(STATE * each.nbytes for each in parameters.values())
    require_space(folder, kept, "keeping the states of a training")
    training = _Training(model, parameters, examples, adapter)
    states = States(folder)
    if done := states.passed():
        training.restore(done, states.read(done))
    with _recomputed(model), Keeper(states) as keeper:
        training.run(done, keeper, progress)
    return training.outcome()


class _Training:
    """A model, what is trained of it, and how that went so far."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        parameters: Mapping[str, nn.Parameter],
        examples: "Examples",
        adapter: TrainedAdapter,
    ) -> None:
        self.model = model
        self.parameters = parameters
        self.examples = examples
        self.adapter = adapter
        self.branches = [each for each in model.modules() if isinstance(each, Branch)]
        lengths = [len(each.ids) for each in examples.train]
        self.order = Order(lengths, adapter.batch_size, adapter.seed)
        self.optimizer = torch.optim.AdamW(
            parameters.values(),
            lr=adapter.learning_rate,
            betas=BETAS,
            weight_decay=adapter.weight_decay,
            fused=True,
        )
        self.losses: list[float] = []  # nats a predicted token, of each step
        self.looks: dict[int, Tensor] = {}  # step -> the held-out pairs' losses, (pairs,) float64
        self.seconds = 0.0

    def run(self, done: int, keeper: Keeper, progress: Progress) -> None:
        """Do all steps that are not done yet, and keep states."""
        steps = self.adapter.steps
        if not done:
            self._look(0)
        with progress.task(f"Training, {steps} steps", steps) as advance:
            advance(done)
            for end in self._ends():
                if done < end:
                    with progress.task(self._heading(done, end), end - done) as advance_part:
                        for step in range(done, end):
                            self._step(step, end, keeper)
                            advance_part(1)
                            advance(1)
                    done = end

    def _step(self, step: int, end: int, keeper: Keeper) -> None:
        """Do a step, counted from 0, and what is due behind it."""
        began = monotonic()
        try:
            self._learn(step)
        except UserError:
            if step:
                keeper.keep(step, self.state())
            raise
        if step + 1 == end:
            self._look(end)
        self.seconds += monotonic() - began
        if keeper.is_due(is_last=step + 1 == self.adapter.steps):
            keeper.keep(step + 1, self.state())

    def _heading(self, done: int, end: int) -> str:
        """Say which steps come, and how the last ones went."""
        heading = f"Steps {done + 1} to {end}"
        if self.losses:
            recent = self.losses[-max(1, self.adapter.steps // LOOKS) :]
            heading += f", loss so far {sum(recent) / len(recent):.3f}"
        if self.looks:
            last = self.looks[max(self.looks)]
            heading += f", held-out {float(last.mean()):.3f}"
        return heading

    def _learn(self, step: int) -> None:
        """Move the parameters by the pairs of a step; not at all where the loss is no number."""
        adapter = self.adapter
        examples = [self.examples.train[number] for number in self.order.batch(step)]
        examples.sort(key=lambda each: len(each.ids))
        parts = [
            rows([examples[number] for number in some], self.examples.pad)
            for some in pieces(list(range(len(examples))), adapter.at_once or len(examples))
        ]
        tokens = sum(len(each.targets) for each in parts)
        self.optimizer.zero_grad()
        loss = 0.0
        for number, part in enumerate(parts):
            with self._dropping(step * adapter.batch_size + number):
                loss += float(backward(self.model, part.to(self.model.device), tokens))
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), adapter.greatest_gradient)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise UserError(self._diverged(step, loss))
        for group in self.optimizer.param_groups:
            group["lr"] = adapter.learning_rate * min(1.0, (step + 1) / self._growing())
        self.optimizer.step()
        self.losses.append(loss / tokens)

    def _growing(self) -> int:
        """Return in how many steps the rate grows."""
        return max(1, math.ceil(self.adapter.steps * self.adapter.warmup))

    def _diverged(self, step: int, loss: float) -> str:
        what = "the loss" if not math.isfinite(loss) else "the norm of the gradients"
        return (
            f"{what} is no finite number at step {step + 1} of {self.adapter.steps}, so nothing of "
            "that step was kept. Lower adapt.learning_rate "
            f"({self.adapter.learning_rate:g}) or adapt.greatest_gradient "
            f"({self.adapter.greatest_gradient:g}) in the recipe, or set "
            "HUBQ_COMPUTE_DTYPE=float32, and run again"
        )

    @contextmanager
    def _dropping(self, moment: int) -> Iterator[None]:
        """Let branches leave inputs out inside the context, as this moment has it."""
        for branch in self.branches:
            branch.moment = moment
        try:
            yield
        finally:
            for branch in self.branches:
                branch.moment = None

    def _look(self, step: int) -> None:
        """Measure the held-out pairs, if there are any, after so many steps."""
        if held_out := self.examples.held_out:
            at_once = self.adapter.at_once or self.adapter.batch_size
            self.looks[step] = mean_losses(self.model, held_out, at_once, self.examples.pad)

    def _ends(self) -> tuple[int, ...]:
        """Return the steps behind which the held-out pairs are worth their time."""
        trained = PASSES * self.adapter.steps * self.adapter.batch_size
        affordable = SHARE * trained / max(1, len(self.examples.held_out))
        return evenly(self.adapter.steps, max(1, min(LOOKS, int(affordable))))

    def state(self) -> dict[str, Tensor]:
        """Return all that the next step depends on, and how it went."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            tensors |= {name: parameter.detach()}
            tensors |= {f"{name}: {key}": moments[key] for key in MOMENTS}
        tensors |= {f"{LOOK}{step}": losses for step, losses in self.looks.items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors["seconds"] = torch.tensor([self.seconds], dtype=torch.float64)
        return tensors

    @torch.no_grad()
    def restore(self, done: int, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state of so many steps."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[name])
            kept = {key: tensors[f"{name}: {key}"].to(parameter.device) for key in MOMENTS}
            kept["step"] = torch.tensor(float(done), device=parameter.device)
            self.optimizer.state[parameter] = kept
        looks = sorted(int(name.removeprefix(LOOK)) for name in tensors if name.startswith(LOOK))
        self.looks = {step: tensors[f"{LOOK}{step}"] for step in looks}
        self.losses = tensors["losses"].tolist()
        self.seconds = float(tensors["seconds"])

    def outcome(self) -> Trained:
        """Sum up."""
        ends = evenly(len(self.losses), POINTS)
        spans = zip((0, *ends[:-1]), ends, strict=True)
        curve = Curve(
            steps=ends,
            losses=tuple(sum(self.losses[a:b]) / (b - a) for a, b in spans),
            held_out_steps=tuple(self.looks),
            held_out_losses=tuple(float(each.mean()) for each in self.looks.values()),
        )
        return Trained(curve, self._compared(), self.seconds)

    def _compared(self) -> HeldOut | None:
        """Compare the held-out pairs' losses before and after."""
        if not self.looks:
            return None
        before, *_, after = self.looks.values()
        return HeldOut(
            pairs=len(before),
            tokens=sum(rows([each], 0).counts[0] for each in self.examples.held_out),
            before=float(before.mean()),
            after=float(after.mean()),
            difference=paired(before, after),
        )


def evenly(steps: int, points: int) -> tuple[int, ...]:
    """Return at most so many steps, as far apart as they can be; the last is the last."""
    count = min(steps, points)
    return tuple(-(-steps * number // count) for number in range(1, count + 1))


def paired(before: Tensor, after: Tensor) -> Interval:  # (pairs,) float64 each
    """Return the mean difference, pair by pair, and where it would lie with other pairs."""
    difference = after - before
    value = float(difference.mean())
    if len(difference) < 2:
        return Interval(value=value)
    noise = CONFIDENCE * float(difference.std()) / math.sqrt(len(difference))
    return Interval(value=value, low=value - noise, high=value + noise)


@contextmanager
def _recomputed(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Let blocks keep only their inputs for the way back, inside the context."""
    blocks: Sequence[nn.Module] = model.get_decoder().layers
    for block in blocks:
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
        )
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
