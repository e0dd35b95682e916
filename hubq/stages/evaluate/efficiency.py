"""What a model takes to run: bytes, seconds and joules, beside its base in the same run.

The model is loaded as a downloader loads it, in a fresh process that does nothing else, with the
libraries imported before the clock starts and the files read once before (to know their content).
Then plain greedy decoding: `batch` rows of `prompt` tokens go in at once, and each row gets exactly
`output` tokens, one forward pass after the other on the cache of keys and values; on a GPU such a
step is recorded once and replayed (inference/static_decoding.py), so that the GPU isn't waiting for
Python, and what it computed of a step is told beside what the step took. The first run
warms up and does not count; of the others the median, the least and the greatest are given.

On a CPU memory is that of the process, so with Python and its libraries (a few hundred MB); on a
GPU it is what tensors take there, beside what torch reserved of it and what the process took of the
host. Energy is that of the whole processor or GPU over all counted runs, shared among the tokens of
output. Seconds on a busy machine say little: how long the threads waited for a core stands beside
them.
"""

from hubq.machine.device import device_title, hardware
from hubq.records.recipe_evaluate import EfficiencySection, Engine, lengths
from hubq.records.report import Efficiency
from hubq.stages.evaluate.measure import Pair, content_of, outcome_file
from hubq.stages.evaluate.measurements.efficiency import EfficiencyTask
from hubq.stages.evaluate.task import Outcome


def efficiency(
    pair: Pair, section: EfficiencySection, engine: Engine = "transformers"
) -> Efficiency:
    """Measure the result, then the base; only outcomes of just this pair, both, count as known.

    A cost that a killed run left alone is measured again: the other side would run at another time.
    """
    import torch

    device = torch.device(pair.where.device)
    prompt, output = lengths(section, device.type)
    asked = EfficiencyTask(
        batch=section.batch,
        prompt=prompt,
        output=output,
        repetitions=section.repetitions,
        hardware=device_title(device),
        beside=content_of(pair.base),
        engine=engine,
    )
    of_base = asked.model_copy(update={"beside": content_of(pair.result)})
    sides = ((pair.result, asked), (pair.base, of_base))
    files = [outcome_file(folder, task, pair.where) for folder, task in sides]
    missing = not all(file.is_file() for file in files)
    if missing:
        for file in files:
            file.unlink(missing_ok=True)
    with pair.standing_by(len(sides) if missing else 0):
        (result,), (base,) = pair.of_result(asked), pair.of_base(of_base)
    return Efficiency(
        **asked.model_dump(include={"batch", "prompt", "output", "repetitions"}),
        engine=_engine_of(base, result),
        hardware=hardware(device),
        base=base.cost,
        result=result.cost,
    )


def _engine_of(base: Outcome, result: Outcome) -> str:
    """Name what ran both models: the same process but for the folder."""
    assert base.engine is not None
    assert base.engine == result.engine
    return base.engine
