"""Each fault at each step of publishing ends as docs/publishing.md says, and the next completes."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_hub import Fault, FaultyHub, drop, faulty_hub, flip, meanwhile, refuse, spoil
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
# Method and path of a step's request, and which of those with that path it is.
STEPS = {
    "look at the repo": ("GET", f"{API}$", 1),
    "make it": ("POST", "/api/repos/create", 1),
    "list its files": ("GET", f"{API}/tree/", 1),
    "ask how files go": ("POST", f"{API}/preupload/", 1),
    "upload a large one": ("PUT", "/lfs", 1),
    "open the request": ("POST", f"{API}/commit/main", 1),
    "list what waits": ("GET", f"{API}/tree/", 2),
    "download a large one": ("GET", "/resolve/[^/]+/model.safetensors", 1),
    "commit to main": ("POST", f"{API}/commit/main", 2),
    "list main": ("GET", f"{API}/tree/", 4),
    "close it": ("POST", f"{API}/discussions/1/status", 1),
    "delete its reference": ("DELETE", f"{API}/discussions/1/ref", 1),
}
SOON = RetryPolicy(tries=4, first=0.001)
Where = tuple[str, str, int]
Arrange = Callable[["Case", Where], Fault]


class Case:
    """A small release, whose publisher has a token of their own and tries again soon."""

    def __init__(self, hub: FaultyHub, run: Path, report: Report) -> None:
        self.hub, self.run, self.report = hub, run, report
        self.files = {
            path.relative_to(run / "model").as_posix(): LocalFile(path)
            for path in (run / "model").rglob("*.*")
        }
        self.repo = report.plan.repo
        self.api = HfApi(hub.endpoint, token=hub.token)
        self.token = mint_token(hub.root, user="ann", role="write", expires_in=None)
        self.client = Client(hub.endpoint, self.token, SOON)

    def publish(self) -> Publication:
        """Publish it."""
        with Downloader(self.report, self.run, self.client, SILENT, load=False) as downloader:
            return release(self.report, self.files, downloader)

    def revoke(self) -> None:
        """Make the publisher's token worthless."""
        revoke_token(self.hub.root, self.token)

    def delete(self) -> None:
        """Delete the repo."""
        self.api.delete_repo(self.repo, missing_ok=True)

    def move(self) -> None:
        """Let somebody write to main."""
        note = CommitOperationAdd("README.md", b"---\nlicense: mit\n---\nmine")
        self.api.create_commit(self.repo, [note], commit_message="By hand")


FAULTS: dict[str, Arrange] = {
    "no answer": lambda _, at: drop(*at[:2], nth=at[2]),
    "lost reply": lambda _, at: drop(*at[:2], nth=at[2], after=True),
    "429": lambda _, at: refuse(*at[:2], 429, nth=at[2], times=2),
    "503, says when": lambda _, at: refuse(*at[:2], 503, nth=at[2], retry_after=0),
    "stays down": lambda _, at: refuse(*at[:2], 503, nth=at[2], times=1000),
    "wrong byte down": lambda _, at: flip(*at[:2], nth=at[2], offset=1),
    "wrong byte up": lambda _, at: spoil(*at[:2], nth=at[2], offset=500),
    "token revoked": lambda case, at: meanwhile(*at[:2], case.revoke, nth=at[2]),
    "not allowed": lambda _, at: refuse(*at[:2], 403, nth=at[2]),
    "repo deleted": lambda case, at: meanwhile(*at[:2], case.delete, nth=at[2]),
    "main moved": lambda case, at: meanwhile(*at[:2], case.move, nth=at[2]),
    "its disk full": lambda _, at: refuse(*at[:2], 507, nth=at[2]),
}


def table() -> dict[tuple[str, str], str]:
    """Read the table of the docs: by step and fault what becomes of a publishing."""
    rows = re.findall(r"^\| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    head, _, *lines = (row.split(" | ") for row in rows)
    return {
        (line[0], fault): cell.strip()
        for line in lines
        for fault, cell in zip(head[1:], line[1:], strict=True)
        if cell.strip() != "-"
    }


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
) -> Case:
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
    return Case(hub, tmp_path / "run", report.model_copy(update={"plan": plan}))


def outcome(case: Case) -> str:
    """Publish, and say in the words of the docs what became of it."""
    try:
        publication = case.publish()
    except UserError:
        case.hub.faults.clear()
        if not case.api.repo_exists(case.repo):
            return "untouched"
        if not case.api.file_exists(case.repo, "model.safetensors"):
            return "untouched"
        return "late" if is_whole(case) else "wrong"
    assert publication.commit == head_of(case.client, case.repo)[0]
    assert is_whole(case)
    return "published"


def is_whole(case: Case) -> bool:
    """Tell whether main holds the release, made by one commit; raise UserError if it doesn't."""
    case.hub.faults.clear()
    client = Client(case.hub.endpoint, case.hub.token)
    verify(case.repo, head_of(client, case.repo)[0], case.files, client)
    titles = [each.title for each in case.api.list_repo_commits(case.repo)]
    return sum(title.startswith("Publish") for title in titles) == 1


# huggingface_hub's own: it hands bytes to httpx2 in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize(("step", "fault"), table())
def test_a_fault_ends_as_the_docs_say_and_the_next_publishing_completes(
    case: Case, step: str, fault: str
) -> None:
    planned = FAULTS[fault](case, STEPS[step])
    case.hub.faults.add(planned)

    became = outcome(case)

    assert planned.seen >= planned.nth, "the fault never struck"
    assert became == table()[step, fault]
    case.hub.faults.clear()
    case.client = Client(case.hub.endpoint, case.hub.token, SOON)
    case.publish()
    assert is_whole(case)
    refs = case.api.list_repo_refs(case.repo, include_pull_requests=True)
    assert ([each.name for each in refs.branches], refs.pull_requests) == (["main"], [])
    assert {each.status for each in case.api.get_repo_discussions(case.repo)} <= {"closed"}
    assert {path.name for path in case.run.iterdir()} == {"model", "publication.json"}
