"""git itself clones and fetches from the hub."""

import os
import subprocess
from pathlib import Path

from faulty_hub import FaultyHub
from huggingface_hub import HfApi

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
