"""How closely a result follows its base on a text, beside how closely the base can follow itself.

The base's worker keeps its last hidden states (distributions.py), the result's worker compares
itself with them (divergence.py). The floor is the base in the report's dtype against the base in
float32: what is lost without any quantization. It is known once for each base.
"""

from math import prod
from typing import NamedTuple

from hubq.machine.files import gigabytes
from hubq.machine.memory import SPARE
from hubq.machine.meters import available
from hubq.records.recipe_evaluate import FidelitySection
from hubq.records.report import Divergence, Fidelity
from hubq.sources.texts.corpus import Corpus
from hubq.stages.evaluate.fit import why_by_blocks
from hubq.stages.evaluate.measure import Pair, content_of, outcome_file
from hubq.stages.evaluate.measurements.divergence import DivergenceTask
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.task import Outcome, Task, keep_text, states_file

FLOOR_WINDOWS = 5  # float32 is several times slower than bfloat16, and the floor lies narrow
EXACT = "float32"


class FidelityTasks(NamedTuple):
    """The tasks of one comparison: those of the base come before the result's."""

    text: Corpus
    hidden: HiddenTask  # of the base
    compared: DivergenceTask  # of the result
    exact: HiddenTask  # of the base in float32
    floor: DivergenceTask | str  # of the base; or why there is no floor

    def of_base(self, pair: Pair) -> tuple[Task, ...]:
        """Return what the base is asked; hidden states only as far as something needs them yet."""
        found: list[Task] = []
        if isinstance(self.floor, DivergenceTask):
            if not pair.knows(pair.base, self.floor):
                found.append(self.exact)
            found.append(self.floor)
        if not pair.knows(pair.result, self.compared):
            found.append(self.hidden)
        return tuple(found)


def asked(pair: Pair, text: Corpus, length: int, section: FidelitySection) -> FidelityTasks:
    """Say what it takes to compare both over the first windows of `length` tokens of a text."""
    hidden = HiddenTask(
        dataset=text.title, text=keep_text(text.text), length=length, windows=section.windows
    )
    few = min(FLOOR_WINDOWS, hidden.windows)
    exact = hidden.model_copy(update={"windows": few, "precision": EXACT})
    return FidelityTasks(
        text=text,
        hidden=hidden,
        compared=_against(pair, hidden),
        exact=exact,
        floor=_floor(pair, exact),
    )


def fidelity(pair: Pair, asked: FidelityTasks) -> Fidelity:
    """Measure what isn't known yet, and compare."""
    pair.of_base(*asked.of_base(pair))
    (outcome,) = pair.of_result(asked.compared)
    result, floor = _divergence(outcome), asked.floor
    found = None if isinstance(floor, str) else _divergence(pair.of_base(floor)[0])
    why_not = floor if isinstance(floor, str) else None
    length = asked.hidden.length
    return Fidelity(
        dataset=asked.text.title,
        version=asked.text.version,
        protocol=protocol(pair.where.dtype, length, result, found or why_not or ""),
        result=result,
        floor=found,
    )


def protocol(dtype: str, length: int, result: Divergence, floor: Divergence | str) -> str:
    """Say in one sentence what was done; `floor` may be why there is none."""
    windows = _windows(result, length)
    what = (
        f"KL(base || result) in nats over the whole vocabulary, softmax in float32 of {dtype} "
        f"logits, predicting the last {length - 1} tokens of each of the first {windows} "
        f"non-overlapping windows of {length}; 95 % intervals by windows (Student's t)"
    )
    if isinstance(floor, str):
        return f"{what}; no floor, since {floor}"
    windows = _windows(floor, length)
    return f"{what}; floor: the base in {dtype} from itself in {EXACT}, the first {windows} windows"


def _windows(found: Divergence, length: int) -> int:
    """Count the windows that were compared."""
    return found.tokens // (length - 1)


def _floor(pair: Pair, exact: HiddenTask) -> DivergenceTask | str:
    """Return the task of comparing the base with itself in float32, or say why there is none."""
    if pair.where.dtype == EXACT:
        return f"that is the base in {EXACT} itself"
    task = _against(pair, exact)
    if not pair.knows(pair.base, task) and (lacking := _lacking(pair)):
        return lacking
    return task


def _lacking(pair: Pair) -> str | None:
    """Say how much memory there is, where it is too little for the base in float32."""
    if why_by_blocks(pair.base, pair.where.device, pair.where.dtype):
        return None  # it comes block by block in float32 too
    from hubq.sources.shards import index

    parameters = sum(prod(info.shape) for info in index(pair.base).values())
    # It is loaded beside the model in the report's dtype.
    needed, free = int(SPARE * (4 + 2) * parameters), available(pair.where.device)
    if needed <= free:
        return None
    return f"the base in {EXACT} needs {gigabytes(needed)} and {gigabytes(free)} are free"


def _against(pair: Pair, hidden: HiddenTask) -> DivergenceTask:
    """Return the task of comparing a model with the base's states."""
    return DivergenceTask(
        **hidden.model_dump(exclude={"kind", "precision"}),
        beside=content_of(pair.base),
        precision=hidden.precision or pair.where.dtype,
        states=states_file(outcome_file(pair.base, hidden, pair.where)),
        reference=pair.base.resolve(),
    )


def _divergence(outcome: Outcome) -> Divergence:
    """Return what a DivergenceTask found."""
    assert outcome.divergence is not None
    return outcome.divergence
