"""A fault at a step of publishing ends as docs/publishing.md prints, and the next completes."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_hub import Fault, FaultyHub, cut, drop, faulty_hub, flip, meanwhile, refuse, spoil, stop
from huggingface_hub import CommitOperationAdd, HfApi
from made_run import make_run

from hubq.client.client import Client
from hubq.client.repo_files import LocalFile, head_of
from hubq.client.retries import RetryPolicy
from hubq.embedded_hub.local import fsck, mint_token, revoke_token
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.machine.progress import SILENT
from hubq.records.report import Report
from hubq.stages.publish.downloaded import Downloader
from hubq.stages.publish.publish import Publication, release, verify

DOCS = Path(__file__).parents[3] / "docs" / "publishing.md"
API = "/api/models/acme/[^/]+"
PUSH = "/git-receive-pack"
# Method and path of a step's request, and which of those with that path it is.
STEPS = {
    "look at the repo": ("GET", f"{API}$", 1),
    "make it": ("POST", "/api/repos/create", 1),
    "list its files": ("GET", f"{API}/tree/", 1),
    "ask how files go": ("POST", f"{API}/preupload/", 1),
    "upload a large one": ("PUT", "/lfs", 1),
    "open the request": ("POST", f"{API}/discussions$", 1),
    "commit to it": ("POST", f"{API}/commit/refs", 1),
    "list what waits": ("GET", f"{API}/tree/", 2),
    "download a large one": ("GET", "/resolve/[^/]+/model.safetensors", 1),
    "put it on main": ("POST", PUSH, 1),
    "commit to main instead": ("POST", f"{API}/commit/main", 1),
    "list main then": ("GET", f"{API}/tree/", 4),
    "close it": ("POST", f"{API}/discussions/1/status", 1),
    "delete its reference": ("DELETE", f"{API}/discussions/1/ref", 1),
}
UNPUSHED = ("commit to main instead", "list main then")  # where the Hub takes no push
OFFSETS = {PUSH: 50}  # of a byte of the body that counts; that of most lies in a file
SOON = RetryPolicy(tries=4, first=0.001)
Where = tuple[str, str, int]
Arrange = Callable[["Case", Where], Fault]


class Case:
    """A small release, whose publisher tries again soon."""

    def __init__(self, hub: FaultyHub, run: Path, report: Report) -> None:
        self.hub, self.run, self.report = hub, run, report
        self.files = {
            path.relative_to(run / "model").as_posix(): LocalFile(path)
            for path in (run / "model").rglob("*.*")
        }
        self.repo = report.plan.repo
        self.api = HfApi(hub.endpoint, token=hub.token)
        self.client = Client(hub.endpoint, hub.token, SOON)
        self.disk = pytest.MonkeyPatch()

    def publish(self) -> Publication:
        """Publish it."""
        with Downloader(self.report, self.run, self.client, SILENT, load=False) as downloader:
            return release(self.report, self.files, downloader)

    def repair(self) -> None:
        """End all faults; the publisher has a new token."""
        self.hub.faults.clear()
        self.disk.undo()
        self.client = Client(self.hub.endpoint, self.hub.token, SOON)

    def revoking(self) -> Callable[[], None]:
        """Give the publisher a token of their own, and return what makes it worthless."""
        token = mint_token(self.hub.root, user="ann", role="write", expires_in=None)
        self.client = Client(self.hub.endpoint, token, SOON)
        return lambda: revoke_token(self.hub.root, token)

    def delete(self) -> None:
        """Delete the repo."""
        self.api.delete_repo(self.repo, missing_ok=True)

    def move(self) -> None:
        """Let somebody write to main."""
        note = CommitOperationAdd("README.md", b"---\nlicense: mit\n---\nmine")
        self.api.create_commit(self.repo, [note], commit_message="By hand")

    def fill(self) -> None:
        """Leave no room on the publisher's disk, which the hub's is not."""
        usage, replace = shutil.disk_usage, os.replace

        def is_here(path: object) -> bool:
            return Path(str(path)).is_relative_to(self.run)

        def replaced(source: Path, target: Path) -> None:
            if is_here(target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            replace(source, target)

        full = SimpleNamespace(total=10, used=10, free=0)
        self.disk.setattr("os.replace", replaced)
        self.disk.setattr("shutil.disk_usage", lambda at: full if is_here(at) else usage(at))


FAULTS: dict[str, Arrange] = {
    "no answer": lambda _, at: drop(*at[:2], nth=at[2]),
    "lost reply": lambda _, at: drop(*at[:2], nth=at[2], after=True),
    "429": lambda _, at: refuse(*at[:2], 429, nth=at[2], times=2),
    "429, says when": lambda _, at: refuse(*at[:2], 429, nth=at[2], retry_after=0),
    "503": lambda _, at: refuse(*at[:2], 503, nth=at[2], times=2),
    "503, says when": lambda _, at: refuse(*at[:2], 503, nth=at[2], retry_after=0),
    "stays down": lambda _, at: refuse(*at[:2], 503, nth=at[2], times=1000),
    "cut off down": lambda _, at: cut(*at[:2], 10, nth=at[2]),
    "wrong byte down": lambda _, at: flip(*at[:2], nth=at[2], offset=1),
    "cut off up": lambda _, at: stop(*at[:2], 30, nth=at[2]),
    "wrong byte up": lambda _, at: spoil(*at[:2], nth=at[2], offset=OFFSETS.get(at[1], 500)),
    "token revoked": lambda case, at: meanwhile(*at[:2], case.revoking(), nth=at[2]),
    "not allowed": lambda _, at: refuse(*at[:2], 403, nth=at[2]),
    "repo deleted": lambda case, at: meanwhile(*at[:2], case.delete, nth=at[2]),
    "main moved": lambda case, at: meanwhile(*at[:2], case.move, nth=at[2]),
    "its disk full": lambda _, at: refuse(*at[:2], 507, nth=at[2]),
    "own disk full": lambda case, at: meanwhile(*at[:2], case.fill, nth=at[2]),
}
# What goes another way than its neighbours: a question is asked again whatever became of it.
TRIED = {
    "look at the repo": ("429, says when", "stays down", "cut off down", "token revoked"),
    "make it": ("lost reply", "503, says when", "its disk full"),
    "list its files": ("503", "wrong byte down", "main moved"),
    "ask how files go": ("no answer", "cut off up", "token revoked"),
    "upload a large one": (
        *("lost reply", "429"),
        *("cut off up", "wrong byte up", "its disk full"),
    ),
    "open the request": (
        *("lost reply", "429", "cut off down", "not allowed", "repo deleted", "main moved"),
        *("its disk full", "own disk full"),
    ),
    "commit to it": (
        *("no answer", "lost reply", "503", "cut off up", "wrong byte up", "main moved"),
    ),
    "list what waits": ("stays down", "wrong byte down", "token revoked"),
    "download a large one": (
        *("429", "cut off down", "wrong byte down", "repo deleted", "main moved", "own disk full"),
    ),
    "put it on main": (
        *("no answer", "lost reply", "503", "stays down", "cut off down", "wrong byte down"),
        *("cut off up", "wrong byte up", "token revoked", "not allowed", "repo deleted"),
        *("main moved", "its disk full"),
    ),
    "commit to main instead": ("lost reply", "wrong byte up"),
    "list main then": ("stays down", "wrong byte down"),
    "close it": ("lost reply", "stays down", "token revoked"),
    "delete its reference": ("lost reply", "not allowed", "own disk full"),
}
CASES = [(step, fault) for step, faults in TRIED.items() for fault in faults]


def table(found: Mapping[tuple[str, str], str]) -> str:
    """Print what became of publishing, as the docs do."""
    rows = [(step, *(found.get((step, fault), "-") for fault in FAULTS)) for step in STEPS]
    lines = [f"| {' | '.join(row)} |" for row in [("step", *FAULTS), *rows]]
    return "\n".join([lines[0], "|---" * (1 + len(FAULTS)) + "|", *lines[1:]])


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], str]:
    """Give the place for what became of each case."""
    return {}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    """Serve one hub for all cases: each has a repo of its own."""
    root = tmp_path_factory.mktemp("faults") / "hub"
    with faulty_hub(root, user="ann", org="acme", wait=False) as running:
        yield running
    fsck(root)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return make_run(tmp_path_factory.mktemp("faults") / "run")


@pytest.fixture
def case(
    hub: FaultyHub,
    report: Report,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Case]:
    """Give a small release of its own; nobody waits between tries, and large files go by LFS."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}" + 600 * " ")
    (model / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    measured = {path.name: sha256_of(path) for path in model.iterdir()}
    (model / "hubq").mkdir()
    (model / "hubq" / "report.json").write_text(json.dumps({"checkpoint": {"files": measured}}))
    repo = f"acme/{tmp_path_factory.getbasetemp().name}-{abs(hash(tmp_path))}"
    plan = report.plan.model_copy(update={"repo": repo})
    hub.faults.clear()
    made = Case(hub, tmp_path / "run", report.model_copy(update={"plan": plan}))
    yield made
    made.repair()


def outcome(case: Case) -> str:
    """Publish, and say in the words of the docs what became of it."""
    try:
        publication = case.publish()
    except (UserError, OSError):
        case.hub.faults.clear()
        if not (case.api.repo_exists(case.repo) and is_published(case)):
            return "untouched"
        return "late" if is_whole(case) else "wrong"
    assert publication.commit == head_of(case.client, case.repo)[0]
    assert is_whole(case)
    return "published"


def is_published(case: Case) -> bool:
    """Tell whether main holds anything of the release."""
    return case.api.file_exists(case.repo, "model.safetensors")


def is_whole(case: Case) -> bool:
    """Tell whether main holds the release, made by one commit; raise UserError if it doesn't."""
    case.hub.faults.clear()
    client = Client(case.hub.endpoint, case.hub.token)
    verify(case.repo, head_of(client, case.repo)[0], case.files, client)
    titles = [each.title for each in case.api.list_repo_commits(case.repo)]
    return sum(title.startswith("Publish") for title in titles) == 1


# huggingface_hub's own: it hands bytes to httpx2 in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize(("step", "fault"), CASES)
def test_a_fault_leaves_a_release_or_main_as_it_was_and_the_next_publishing_completes(
    case: Case, step: str, fault: str, found: dict[tuple[str, str], str]
) -> None:
    planned = FAULTS[fault](case, STEPS[step])
    if step in UNPUSHED:
        case.hub.faults.add(refuse("POST", PUSH, 403))
    case.hub.faults.add(planned)

    became = found[step, fault] = outcome(case)

    assert planned.seen >= planned.nth, "the fault never struck"
    assert became in ("published", "untouched", "late")
    case.repair()
    case.publish()
    assert is_whole(case)
    refs = case.api.list_repo_refs(case.repo, include_pull_requests=True)
    assert ([each.name for each in refs.branches], refs.pull_requests) == (["main"], [])
    assert {each.status for each in case.api.get_repo_discussions(case.repo)} <= {"closed"}
    assert {path.name for path in case.run.iterdir()} == {"model", "publication.json"}


def test_the_docs_print_what_was_found(found: dict[tuple[str, str], str]) -> None:
    if found.keys() != set(CASES):
        pytest.skip("not all of them were tried")

    assert table(found) in DOCS.read_text(encoding="utf-8"), f"print this:\n{table(found)}"
