"""git itself clones and fetches from the hub."""

import os
import subprocess
from pathlib import Path

import httpx2
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, HfApi

from hubq.client.pushing import EMPTY_PACK, request
from hubq.embedded_hub.local import mint_token

QUIET = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nowhere"}


def git(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *map(str, arguments)], capture_output=True, text=True, env=QUIET, check=False
    )


def test_a_clone_has_the_history_and_pointers_for_large_files(
    api: HfApi, repo: str, hub: FaultyHub, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=bytes(3000), path_in_repo="a.bin", repo_id=repo)
    api.create_tag(repo, tag="v1", tag_message="One")

    done = git("clone", f"{hub.endpoint}/{repo}", tmp_path / "clone")

    assert done.returncode == 0, done.stderr
    pointer = (tmp_path / "clone" / "a.bin").read_text()
    assert pointer.startswith("version https://git-lfs.github.com/spec/v1\noid sha256:")
    assert pointer.endswith("\nsize 3000\n")
    head = git("-C", tmp_path / "clone", "rev-parse", "HEAD", "v1^{commit}").stdout.split()
    assert head == [api.model_info(repo).sha] * 2


def test_a_fetch_brings_what_is_new(api: HfApi, repo: str, hub: FaultyHub, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git("clone", f"{hub.endpoint}/{repo}", clone)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    done = git("-C", clone, "pull", "--ff-only")

    assert done.returncode == 0, done.stderr
    assert (clone / "a.txt").read_text() == "x"


def test_a_private_repo_is_cloned_with_a_token_only(
    api: HfApi, hub: FaultyHub, tmp_path: Path
) -> None:
    api.create_repo("acme/private", private=True)
    plain = f"{hub.endpoint}/acme/private"

    without = git("clone", plain, tmp_path / "without")
    given = git("clone", plain.replace("//", f"//user:{hub.token}@") + ".git", tmp_path / "with")

    assert "could not read Username" in without.stderr
    assert given.returncode == 0, given.stderr


def test_a_gated_repo_is_not_cloned_by_strangers(
    api: HfApi, stranger: HfApi, repo: str, hub: FaultyHub, tmp_path: Path
) -> None:
    api.update_repo_settings(repo, gated="auto")
    address = f"{hub.endpoint}/{repo}".replace("//", f"//eve:{stranger.token}@")

    done = git("clone", address, tmp_path / "clone")

    assert done.returncode != 0
    assert "403" in done.stderr


def test_a_push_is_refused(api: HfApi, repo: str, hub: FaultyHub, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    address = f"{hub.endpoint}/{repo}".replace("//", f"//user:{hub.token}@")
    git("clone", address, clone)

    done = git("-C", clone, "push", "origin", "HEAD:refs/heads/other")

    assert done.returncode != 0
    assert "403" in done.stderr
    assert [ref.name for ref in api.list_repo_refs(repo).branches] == ["main"]


@pytest.fixture
def proposed(api: HfApi, repo: str) -> tuple[str, str]:
    """Return main's head, and the commit of a pull request upon it."""
    head = str(api.model_info(repo).sha)
    add = CommitOperationAdd("a.txt", b"a")
    api.create_commit(repo, [add], commit_message="Add a", create_pr=True)
    return head, str(api.model_info(repo, revision="refs/pr/1").sha)


def push(url: str, token: str, body: bytes) -> httpx2.Response:
    headers = {"Content-Type": "application/x-git-receive-pack-request"}
    return httpx2.post(
        f"{url}.git/git-receive-pack", content=body, headers=headers, auth=("", token)
    )


def test_a_push_lets_main_be_at_a_commit_that_a_request_holds(
    api: HfApi, repo: str, hub: FaultyHub, proposed: tuple[str, str]
) -> None:
    said = push(f"{hub.endpoint}/{repo}", hub.token, request("refs/heads/main", *proposed))

    assert said.content == b"000eunpack ok\n0017ok refs/heads/main\n0000"
    assert api.model_info(repo).sha == proposed[1]


def test_a_push_needs_the_right_to_write(
    api: HfApi, repo: str, hub: FaultyHub, proposed: tuple[str, str]
) -> None:
    tokens = [
        mint_token(hub.root, user="local", role="read", expires_in=60),
        mint_token(hub.root, user="local", role="write", expires_in=60, only="acme/other"),
        "hf_nobody",
    ]
    asked = request("refs/heads/main", *proposed)

    statuses = [push(f"{hub.endpoint}/{repo}", each, asked).status_code for each in tokens]

    assert statuses == [403, 403, 401]
    assert api.model_info(repo).sha == proposed[0]


def test_a_push_of_anything_else_is_refused(
    api: HfApi, repo: str, hub: FaultyHub, proposed: tuple[str, str]
) -> None:
    head, other = proposed
    beside = CommitOperationAdd("b.txt", b"b")
    api.create_commit(repo, [beside], commit_message="By hand")
    main = str(api.model_info(repo).sha)
    asked = request("refs/heads/main", main, other)
    bodies = {
        b"non-fast-forward": asked,
        b"fetch first": request("refs/heads/main", head, other),
        b"the commit is not here": request("refs/heads/main", main, "1" * 40),
        b"takes no objects": asked.replace(EMPTY_PACK, b"PACK" + bytes(28)),
        b"one branch at a time": asked.replace(b"refs/heads/main", b"refs/pulls/main"),
        b"not what git sends": b"zzzz",
    }

    for word, body in bodies.items():
        assert word in push(f"{hub.endpoint}/{repo}", hub.token, body).content

    assert api.model_info(repo).sha == main
