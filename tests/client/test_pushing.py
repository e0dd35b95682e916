"""A branch goes to a commit that is there already: as git itself takes it, and as a Hub may not."""

import subprocess
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, drop, flip, refuse
from huggingface_hub import CommitOperationAdd

from hubq.client.client import Client
from hubq.client.commit import Change, compare
from hubq.client.pushing import pushed, request
from hubq.client.repo_files import LocalFile
from hubq.errors import UserError

REPO = "acme/pushed"
PUSH = ("POST", "/git-receive-pack")
IDENTITY = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")


def git(folder: Path, *words: str, given: bytes = b"") -> bytes:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout.strip()


def test_git_moves_a_branch_upon_the_head_that_was_named_and_upon_no_other(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", ".")
    tree = git(tmp_path, "write-tree").decode()
    first = git(tmp_path, *IDENTITY, "commit-tree", tree, "-m", "first").decode()
    second = git(tmp_path, *IDENTITY, "commit-tree", tree, "-p", first, "-m", "second").decode()
    git(tmp_path, "update-ref", "refs/heads/main", first)
    git(tmp_path, "update-ref", "refs/pr/1", second)
    receive = ("receive-pack", "--stateless-rpc", ".")
    asked = request("refs/heads/main", first, second)

    said, again = (git(tmp_path, *receive, given=asked) for _ in range(2))

    assert said == b"000eunpack ok\n0017ok refs/heads/main\n0000"
    assert b"ng refs/heads/main" in again
    assert git(tmp_path, "rev-parse", "refs/heads/main").decode() == second


@pytest.fixture
def change(client: Client, tmp_path: Path) -> Change:
    """Give a change of a new repo that a pull request holds."""
    (tmp_path / "a.txt").write_text("a")
    client.api().create_repo(REPO)
    head = str(client.api().model_info(REPO).sha)
    add = CommitOperationAdd("a.txt", b"a")
    client.api().create_commit(REPO, [add], commit_message="Add a", create_pr=True)
    return compare(REPO, head, {"a.txt": LocalFile(tmp_path / "a.txt")}, "Add a", client)


@pytest.fixture
def waiting(change: Change, client: Client) -> str:
    return str(client.api().model_info(REPO, revision="refs/pr/1").sha)


def main(client: Client) -> str:
    return str(client.api().model_info(REPO).sha)


def test_the_branch_is_at_the_very_commit(change: Change, waiting: str, client: Client) -> None:
    assert pushed(change, waiting, client) == waiting == main(client)


def test_a_reply_that_is_lost_is_made_up_for_by_a_look(
    change: Change, waiting: str, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(drop(*PUSH, after=True))

    assert pushed(change, waiting, client) == waiting == main(client)


def test_an_answer_that_is_not_gits_is_no_yes(
    change: Change, waiting: str, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(flip(*PUSH))

    assert pushed(change, waiting, client) == waiting  # as the head tells


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_hub_that_takes_no_push_is_told_apart(
    change: Change, waiting: str, client: Client, hub: FaultyHub, status: int
) -> None:
    hub.faults.add(refuse(*PUSH, status))

    assert pushed(change, waiting, client) is None
    assert main(client) == change.head


def test_a_branch_that_moved_is_left_alone(change: Change, waiting: str, client: Client) -> None:
    add = CommitOperationAdd("b.txt", b"b")
    client.api().create_commit(REPO, [add], commit_message="By hand")
    theirs = main(client)

    with pytest.raises(UserError, match="nothing was overwritten"):
        pushed(change, waiting, client)

    assert main(client) == theirs
