"""How closely a result follows its base on a text, beside how closely the base can follow itself.

The base's worker keeps its last hidden states (distributions.py), the result's worker compares
itself with them (divergence.py). The floor is the base in the report's dtype against the base in
float32: what is lost without any quantization. It is known once for each base.
"""

from math import prod

from hubq.dataset import Corpus
from hubq.disk import gigabytes
from hubq.evaluate.jobs import DivergenceTask, HiddenTask, Outcome, keep_text, states_file
from hubq.evaluate.measure import Pair, content_of, outcome_file
from hubq.evaluate.memory import available
from hubq.evaluate.report import Divergence, Fidelity
from hubq.recipe_evaluate import FidelitySection

FLOOR_WINDOWS = 10  # float32 is several times slower than bfloat16
EXACT = "float32"
SPARE = 1.2  # memory for activations, over that of the weights


def fidelity(pair: Pair, text: Corpus, length: int, section: FidelitySection) -> Fidelity:
    """Compare next-token distributions over the first windows of `length` tokens of a text."""
    hidden = HiddenTask(
        dataset=text.title, text=keep_text(text.text), length=length, windows=section.windows
    )
    floor = _floor(pair, hidden)
    pair.of_base(hidden)
    (outcome,) = pair.of_result(_against(pair, hidden, pair.where.dtype))
    result = _divergence(outcome)
    return Fidelity(
        dataset=text.title,
        version=text.version,
        protocol=protocol(pair.where.dtype, length, result, floor),
        result=result,
        floor=floor if isinstance(floor, Divergence) else None,
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


def _floor(pair: Pair, hidden: HiddenTask) -> Divergence | str:
    """Return how far the base in the report's dtype is from itself in float32, or why not."""
    if pair.where.dtype == EXACT:
        return f"that is the base in {EXACT} itself"
    few = hidden.model_copy(update={"windows": min(FLOOR_WINDOWS, hidden.windows)})
    task = _against(pair, few, EXACT)
    if not outcome_file(pair.base, task, pair.where).is_file():
        if lacking := _lacking(pair):
            return lacking
        pair.of_base(few, dtype=EXACT)
    # The hidden states for the result come along: one load of the base gives both.
    outcome, _ = pair.of_base(task, hidden)
    return _divergence(outcome)


def _lacking(pair: Pair) -> str | None:
    """Say how much memory there is, where it is too little for the base in float32."""
    from hubq.shards import index

    parameters = sum(prod(info.shape) for info in index(pair.base).values())
    needed, free = int(SPARE * 4 * parameters), available(pair.where.device)
    if needed <= free:
        return None
    return f"the base in {EXACT} needs {gigabytes(needed)} and {gigabytes(free)} are free"


def _against(pair: Pair, hidden: HiddenTask, dtype: str) -> DivergenceTask:
    """Return the task of comparing a model with the base in a dtype."""
    where = pair.where._replace(dtype=dtype)
    return DivergenceTask(
        **hidden.model_dump(exclude={"kind"}),
        beside=content_of(pair.base),
        precision=dtype,
        states=states_file(outcome_file(pair.base, hidden, where)),
        reference=pair.base.resolve(),
    )


def _divergence(outcome: Outcome) -> Divergence:
    """Return what a DivergenceTask found."""
    assert outcome.divergence is not None
    return outcome.divergence
