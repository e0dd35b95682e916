"""Try what hubq writes in each engine: PYTHONPATH=.:bench:tests python -m engines FOLDER [NAME ...]

Environments, and what an unfinished run found, lie in FOLDER, so that the next run goes on there.
An engine that can't be installed or breaks stops no other. What an engine refuses or answers
wrongly is a result like others; the exit code is 1 if no engine could be had.
"""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

from engines.asking import Asked, asked
from engines.cases import Case, cases
from engines.comparison import Reference, compare, is_right, reference
from engines.environments import HAS_GPU, HERE, KINDS, LONGEST, Environment, Kind, ready
from engines.padded import NAME, padded
from engines.page import PAGE, refresh
from engines.texts import NEW, PROMPT, TEXTS
from hubq.errors import UserError
from hubq.machine.device import best_device, hardware
from hubq.records.engine_tests import Attempt, Engine, EngineTests, Numbers
from hubq.sources.tokenizer import tokenizer_of
from hubq.stages.lint.serving import FILE

DTYPE = "bfloat16"
DEVICE = "GPU" if HAS_GPU else "CPU"


class Trial:
    """One engine: its process, and what it has found so far."""

    def __init__(self, kind: Kind, place: Environment, process: Asked, found: Engine) -> None:
        self.kind, self.place, self.process, self.found = kind, place, process, found

    def has(self, case: Case) -> bool:
        """Tell whether it has been given a case."""
        return any(each.layout == case.layout for each in self.found.tests)

    def give(self, folder: Path, case: Case, wanted: Reference) -> None:
        """Give it a model, and keep what comes of that."""
        numbers: Numbers | None = None
        said: str | None = None
        try:
            path = self.kind.prepare(self.place, folder)
            answer = self.process.ask(
                {"model": str(path), "dtype": DTYPE, "length": PROMPT + NEW, "new": NEW}
                | {"prompts": [list(each) for each in wanted.prompts]}
            )
            numbers = compare(wanted, answer["written"], answer["scored"])
        except UserError as error:
            said = " ".join(str(error).replace(str(folder.parent), "").split())[:LONGEST]
        outcome = "refused" if numbers is None else "right" if is_right(numbers) else "wrong"
        one = Attempt(
            layout=case.layout, model=NAME, dtype=DTYPE, outcome=outcome, said=said, numbers=numbers
        )
        self.found = self.found.model_copy(update={"tests": (*self.found.tests, one)})
        print(f"{self.kind.name:10} {described(one)}", flush=True)


def main(folder: Path, names: Sequence[str]) -> int:
    """Try all cases in the engines of these names; return the exit code."""
    unfinished = folder / "unfinished.json"
    known = EngineTests.load(unfinished) if unfinished.exists() else EngineTests()
    base = padded(folder / "base")
    absent: list[Engine] = []
    with ExitStack() as stack:
        trials: list[Trial] = []
        for kind in KINDS:
            if kind.name in names:
                print(f"{kind.name:10} is being installed and started", flush=True)
                try:
                    trials.append(started(kind, folder, known, stack))
                except UserError as error:
                    print(f"{kind.name:10} not installed: {error}", flush=True)
                    absent.append(Engine(name=kind.name, date=today(), absent=str(error)))
        for case in cases():
            if lacking := [each for each in trials if not each.has(case)]:
                one_case(case, base, lacking)
                EngineTests(engines=tuple(each.found for each in trials)).save(unfinished)
        found = [each.found for each in trials]
    old = EngineTests.load(FILE) if FILE.exists() else EngineTests()
    new = merged(old, [*found, *absent])
    new.save(FILE)
    refresh(new)
    unfinished.unlink(missing_ok=True)
    print(f"written: {FILE} and {PAGE}")
    return int(not found)


def started(kind: Kind, folder: Path, known: EngineTests, stack: ExitStack) -> Trial:
    """Install and start an engine, and take what an unfinished run found with this version."""
    place = ready(kind, folder)
    log = folder / f"{place.folder.name}.log"
    process = stack.enter_context(asked(place.python, HERE / kind.script, log))
    new = Engine(
        name=kind.name,
        date=today(),
        version=process.version,
        device=DEVICE,
        machine=hardware(best_device()),
        settings=None if HAS_GPU else kind.settings,
    )
    same = [one for one in known.engines if (one.name, one.version) == (new.name, new.version)]
    return Trial(kind, place, process, same[0] if same else new)


def one_case(case: Case, base: Path, trials: Sequence[Trial]) -> None:
    """Write one model, and give it to engines."""
    print(case.layout, flush=True)
    tokenizer = tokenizer_of(base)
    prompts = [tokenizer(text)["input_ids"][:PROMPT] for text in TEXTS]
    with tempfile.TemporaryDirectory(prefix="hubq-engines-") as scratch:
        folder = case.write(base, Path(scratch) / "model")
        wanted = reference(folder, prompts, DTYPE)
        for each in trials:
            each.give(folder, case, wanted)


def merged(old: EngineTests, new: Sequence[Engine]) -> EngineTests:
    """Put new results in the place of those of the same engine and device.

    That an engine can't be had here takes nothing away that was found elsewhere.
    """
    found = {(each.name, each.device): each for each in (*old.engines, *new)}
    tried = {each.name for each in found.values() if each.absent is None}
    return EngineTests(
        engines=tuple(
            each for each in found.values() if each.absent is None or each.name not in tried
        )
    )


def described(one: Attempt) -> str:
    """Say in a line what came of a model."""
    if one.numbers is None:
        return f"{one.outcome}: {one.said}"
    it = one.numbers
    return (
        f"{one.outcome}: likelihoods {it.distance:.4f} nats off, by {one.dtype} alone "
        f"{it.noise:.4f}; {it.equal} of {it.written} tokens are the likeliest, the others less so "
        f"by {it.gap:.4f} at most"
    )


def today() -> date:
    """Return the day in UTC."""
    return datetime.now(UTC).date()


if __name__ == "__main__":
    known_names = [each.name for each in KINDS]
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or known_names))
