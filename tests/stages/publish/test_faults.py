"""A fault at a step of publishing ends as docs/publishing.md prints, and the next completes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from faulty_hub import Fault, cut, drop, flip, meanwhile, refuse, spoil, stop
from small_release import Case, is_published, is_whole, require_completed

from hubq.client.repo_files import head_of
from hubq.errors import UserError

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
Where = tuple[str, str, int]
Arrange = Callable[[Case, Where], Fault]


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
    "look at the repo": ("429, says when", "cut off down", "token revoked"),
    "make it": ("lost reply", "its disk full"),
    "list its files": ("503, says when", "main moved"),
    "ask how files go": ("no answer", "cut off up"),
    "upload a large one": ("429", "cut off up", "wrong byte up", "its disk full"),
    "open the request": (
        *("lost reply", "429", "cut off down", "not allowed", "repo deleted", "main moved"),
        *("its disk full", "own disk full"),
    ),
    "commit to it": ("lost reply", "503", "wrong byte up", "main moved"),
    "list what waits": ("stays down", "wrong byte down"),
    "download a large one": (
        *("cut off down", "wrong byte down", "repo deleted", "main moved", "own disk full"),
    ),
    "put it on main": (
        *("no answer", "lost reply", "503", "stays down", "cut off down", "wrong byte up"),
        *("token revoked", "not allowed", "main moved"),
    ),
    "commit to main instead": ("lost reply", "wrong byte up"),
    "list main then": ("wrong byte down",),
    "close it": ("lost reply", "token revoked"),
    "delete its reference": ("stays down", "own disk full"),
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


# huggingface_hub's own: it hands bytes to httpx2 in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
# Also its own, which another of several downloads may say when the disk is full.
@pytest.mark.filterwarnings("ignore:Not enough free disk space:UserWarning")
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
    require_completed(case)


def test_the_docs_print_what_was_found(found: dict[tuple[str, str], str]) -> None:
    if found.keys() != set(CASES):
        pytest.skip("not all of them were tried")

    assert table(found) in DOCS.read_text(encoding="utf-8"), f"print this:\n{table(found)}"
