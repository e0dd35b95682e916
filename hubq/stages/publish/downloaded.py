"""What waits on the Hub, as whoever downloads it gets it: in a fresh process, into an empty cache.

It brings the files as `hubq pull` does, which checks every byte, loads them by their name and
commit as the card's quick start says, then the local folder in the same way, and compares their
logits: they are the same bit for bit on a CPU. Without loading, they are brought into an empty
folder here.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hubq.client.client import Client
from hubq.client.credentials import environment_for
from hubq.client.pull import pull
from hubq.errors import UserError
from hubq.machine.files import gigabytes, read_object
from hubq.machine.meters import available
from hubq.machine.progress import Progress
from hubq.machine.shortages import died_of_memory, out_of_memory
from hubq.records.adapted_report import AdaptedReport
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.report import Report
from hubq.records.run_folder import DOWNLOADED, MODEL
from hubq.stages.evaluate.adapter_repo import linked
from hubq.stages.evaluate.fork_server import ForkServer, WorkerStart
from hubq.stages.evaluate.processes import (
    Worker,
    begun,
    can_fork,
    forked_by,
    plain_fork_server,
)
from hubq.stages.evaluate.workers import memory_of
from hubq.stages.plan.adapted_run import belongs_to

DEVICE = "cpu"
PROGRAM = Path(__file__).with_name("quick_start.py")
CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_XET_CACHE", "HF_MODULES_CACHE")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
WINDOWS = 2  # of the report's first text, or of tokens in a row
LENGTH = 64  # tokens of the latter, and of what both sides read
# Between what a text's window was measured to be and what it is now: another dtype, other batches.
NATS = 0.05
LAST_LINES = 15


class Windows(NamedTuple):
    """What is read, and what the report's measurement found of it; empty: nothing."""

    ids: list[list[int]]
    losses: tuple[float, ...] = ()


class Downloader:
    """Looks at what waits on the Hub as a downloader does; starts what loads it in good time."""

    def __init__(
        self, report: Report, run: Path, client: Client, progress: Progress, *, load: bool
    ) -> None:
        self.report, self.run, self.client, self.progress = report, run, client, progress
        self.place = (run / DOWNLOADED).resolve()  # whoever loads works elsewhere
        self.load = load
        self._fork_server: ForkServer | None = None

    def __enter__(self) -> "Downloader":
        shutil.rmtree(self.place, ignore_errors=True)
        return self

    def prepare(self) -> None:
        """Begin to import what loads, while something else is done, unless that has been done."""
        if self.load and self._fork_server is None and can_fork(DEVICE):
            self._fork_server = plain_fork_server(self._environment())

    def __exit__(self, *_: object) -> None:
        self._fork_server = None
        shutil.rmtree(self.place, ignore_errors=True)

    def look(self, commit: str, *, is_open: bool) -> tuple[str, ...]:
        """Download a commit, load it, and return in sentences what was seen.

        An open repo is asked for without a token. Raises UserError where something is not as it
        is in the run folder.
        """
        name = f"{self.report.plan.repo}@{commit}"
        if reason := self._why_not():
            pull(name, self.place / "files", self.client, self.progress)
            return (f"not loaded: {reason}",)
        with ThreadPoolExecutor(1) as meanwhile:
            read = meanwhile.submit(self._windows)
            folders = self._brought([name, *self._base()], is_open=is_open)
        windows, ways = read.result(), self._ways()
        answer = self._answer(self._job(commit, folders, windows, ways), HF_HUB_OFFLINE="1")
        return judge(self.report.plan.repo, ways, answer, windows.losses)

    def _why_not(self) -> str | None:
        """Say why a release is not loaded here; None: it is."""
        plan, folder = self.report.plan, self.run / MODEL
        if not self.load:
            return "this was asked for"
        if self._is_adapter and plan.recipe["publish"].get("adapter_of") == "base":
            return "an adapter of the 16-bit base, which does not lie here"
        needed, free = memory_of(folder), available("cpu")
        if needed > free:
            return f"that takes {gigabytes(needed)} of memory, {gigabytes(free)} is free"
        return None

    @property
    def _is_adapter(self) -> bool:
        return isinstance(self.report, AdaptedReport) and self.report.is_adapter

    def _base(self) -> Iterator[str]:
        """Yield what an adapter is loaded on."""
        if self._is_adapter and (base := belongs_to(self.report.plan)):
            yield base

    def _environment(self) -> dict[str, str]:
        """Return that of a downloader's process: an empty cache, and no token."""
        known = environment_for(self.client.url, None)
        kept = {key: each for key, each in known.items() if key not in (*CACHES, *OFFLINE)}
        return kept | {"HF_HOME": str(self.place.resolve()), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def _brought(self, names: Sequence[str], *, is_open: bool) -> list[Path]:
        """Bring repos into the empty cache; return the files' folders."""
        token = None if is_open else self.client.sent_token
        answer = self._answer({"bring": names, "token": token})
        if "lost" in answer:
            raise UserError(
                f"{names[0]} waits on the Hub, but can't be downloaded from there: "
                f"{answer['lost']}\nmain is as it was"
            )
        return [Path(each) for each in answer["folders"]]

    def _job(
        self, commit: str, folders: Sequence[Path], windows: Windows, ways: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what is asked of the process that loads."""
        repo, local = self.report.plan.repo, self.run / MODEL
        there, *base = folders
        folder = linked(base[0], there, self.place / "adapted") if base else there
        return {
            "there": {
                "place": {"pretrained_model_name_or_path": repo, "revision": commit},
                "folder": str(folder),
            },
            "here": {
                "place": {"pretrained_model_name_or_path": str(local.resolve())},
                "folder": str(local.resolve()),
            },
            "ways": ways,
            "windows": windows.ids,
            "compared": LENGTH,
            "tokenizes": not self._is_adapter,
            "device": DEVICE,
        }

    def _ways(self) -> list[dict[str, Any]]:
        """Return how the card's quick starts load that can run here."""
        form = self.report.plan.recipe["format"]
        plain = self.report.loader.startswith("transformers") and not self._is_adapter
        reader = "transformers" if plain else "hubq"
        way = {"reader": reader, "dtype": self.report.dtype, "trust": False, "packed": False}
        if plain and form == "hubq":
            return [way | {"trust": True}, way | {"trust": True, "packed": True}]
        return [way]

    def _answer(self, job: dict[str, Any], **more: str) -> dict[str, Any]:
        """Let a fresh process do a job, with more in its environment, and return its answer."""
        with TemporaryDirectory(prefix="hubq-reload-") as folder:  # nobody else's: it has a token
            file, log = Path(folder) / "job.json", Path(folder) / "log"
            file.write_text(json.dumps(job))
            environment = self._environment() | more
            start = WorkerStart(module=str(PROGRAM), job=file, environment=environment)
            with self._working(start, log) as worker:
                assert worker.stdout is not None
                said, code = worker.stdout.readline(), worker.wait()
            if said:
                answer: dict[str, Any] = json.loads(said)
                return answer
            raise self._broken(code, log.read_text(errors="replace"))

    @contextmanager
    def _working(self, start: WorkerStart, log: Path) -> Iterator[Worker]:
        """Start a process that knows no hubq; end it with whatever ends this."""
        self.place.mkdir(parents=True, exist_ok=True)
        self.prepare()
        if self._fork_server is None:
            begin: AbstractContextManager[Worker] = begun([start.module], start, log)
        else:
            start.save(start.job.with_name("start.json"))
            begin = forked_by(self._fork_server.plain.fork, start, log)
        with begin as worker:
            try:
                yield worker
            except BaseException:
                worker.kill()
                raise

    def _broken(self, code: int, log: str) -> Exception:
        """Explain a process that ended without an answer."""
        doing = f"loading {self.report.plan.repo} from the Hub"
        if died_of_memory(code, log):
            return UserError(out_of_memory(doing, "publish with --no-reload"))
        return RuntimeError(f"{doing} failed with exit code {code}:\n{_tail(log)}")

    def _windows(self) -> Windows:
        """Return the first windows of the report's first text with their losses, or tokens."""
        found = self._measured_windows()
        if found is not None:
            return found
        vocabulary = int(read_object(self.run / MODEL / "config.json").get("vocab_size", LENGTH))
        ids = range(WINDOWS * LENGTH)
        tokens = [each * max(1, vocabulary // len(ids)) % vocabulary for each in ids]
        return Windows([tokens[n * LENGTH : (n + 1) * LENGTH] for n in range(WINDOWS)])

    def _measured_windows(self) -> Windows | None:
        """Read the report's first text again; None where it has none, or what was found is gone."""
        # Measuring brings much, and only a release that is loaded needs it.
        from hubq.sources.calibration_tokens import leading_ids
        from hubq.stages.evaluate.against_base import perplexities_of, texts_of
        from hubq.stages.evaluate.measure import machine, outcome_file
        from hubq.stages.evaluate.task import Outcome

        section = EvaluateSection.model_validate(self.report.plan.recipe.get("evaluate", {}))
        first = section.model_copy(update={"perplexity": section.perplexity[:1]})
        folder = self.run / MODEL
        texts = texts_of(first, self.client)
        for task, text in zip(perplexities_of(first, texts), texts, strict=True):
            where = machine(self.report.plan.dtype, section.dtype)
            outcome = outcome_file(folder, task, where)
            if outcome.is_file():
                losses = Outcome.load(outcome).scores[0].items[:WINDOWS]
                ids = leading_ids(text.text, folder, len(losses) * task.length)
                cut = range(0, len(losses) * task.length, task.length)
                return Windows([ids[at : at + task.length] for at in cut], losses)
        return None


def judge(
    repo: str, ways: Sequence[dict[str, Any]], answer: dict[str, Any], measured: Sequence[float]
) -> tuple[str, ...]:
    """Say of each way to load what was seen; raise UserError for what is not as it is here.

    `measured` are the losses of the windows by the report, in nats; empty: it has none of them.
    """
    if "refused" in answer:
        raise _unlike(repo, f"does not load: {answer['refused']}")
    if not answer["same_tokens"]:
        raise _unlike(repo, "gives other tokens for the same text")
    told = []
    for way, found in zip(ways, answer["ways"], strict=True):
        if not found["finite"]:
            raise _unlike(repo, f"gives logits that are no numbers, {_titled(way)}")
        if found["largest"] != 0.0:
            raise _unlike(repo, f"gives logits that differ by {found['largest']:.4g}")
        same = f"the same logits as the local folder, bit for bit ({found['dtype']})"
        told.append(f"{_titled(way)}: {same}")
    return (*told, *_as_measured(repo, measured, answer["ways"][0]["losses"]))


def _as_measured(repo: str, measured: Sequence[float], found: Sequence[float]) -> Iterator[str]:
    """Say that windows of the report's text are scored as they were measured."""
    if not measured:
        return
    gap = max(abs(a - b) for a, b in zip(measured, found, strict=True))
    if not gap <= NATS:  # so that NaN is none
        how = f"scores a text of the report by {gap:.4g} nats a token otherwise than measured"
        raise _unlike(repo, how)
    yield f"{len(found)} windows of the report's text: within {gap:.2g} nats of what it measured"


def _titled(way: dict[str, Any]) -> str:
    """Name a way to load as the card does."""
    if way["reader"] == "hubq":
        return "loaded by hubq"
    kept = ", kept packed" if way["packed"] else ""
    trusting = " with the repo's own reader" if way["trust"] else ""
    return f"loaded by transformers{trusting}{kept}"


def _unlike(repo: str, how: str) -> UserError:
    return UserError(
        f"what waits on the Hub for {repo} {how}.\nmain is as it was. If this machine's disk and "
        "memory are sound, report it: the files arrived whole"
    )


def _tail(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-LAST_LINES:])
