"""A commit happens wholly or not at all, on the head that it was made for."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from dulwich.objects import Blob
from dulwich.repo import Repo
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from hubq.embedded_hub.committing import Message, move_ref, put_blob, write_commit
from hubq.embedded_hub.history import Histories, branch_ref
from hubq.embedded_hub.refusals import Refusal


def add(api: HfApi, repo: str, path: str, content: bytes = b"x", **options: str) -> str:
    operations = [CommitOperationAdd(path, content)]
    made = api.create_commit(repo, operations, commit_message=f"Add {path}", **options)  # type: ignore[call-overload]
    return str(made.oid)


def post(http: httpx.Client, repo: str, *changes: tuple[str, dict[str, str]]) -> httpx.Response:
    lines = [("header", {"summary": "try"}), *changes]
    body = "\n".join(json.dumps({"key": key, "value": value}) for key, value in lines)
    return http.post(f"/api/models/{repo}/commit/main", content=body)


def test_a_commit_on_an_old_head_is_refused(api: HfApi, repo: str) -> None:
    old = api.model_info(repo).sha
    add(api, repo, "a.txt")

    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        add(api, repo, "b.txt", parent_commit=str(old))

    assert caught.value.response.status_code == 412
    assert "b.txt" not in api.list_repo_files(repo)


def test_the_first_digits_of_a_head_are_enough(api: HfApi, repo: str) -> None:
    head = str(api.model_info(repo).sha)

    add(api, repo, "a.txt", parent_commit=head[:7])

    assert "a.txt" in api.list_repo_files(repo)


def test_of_commits_on_the_same_head_one_wins(api: HfApi, repo: str) -> None:
    head = str(api.model_info(repo).sha)

    def attempt(number: int) -> int:
        try:
            add(api, repo, f"{number}.txt", parent_commit=head)
        except HfHubHTTPError as error:
            return int(error.response.status_code)
        return 200

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(attempt, range(4)))

    assert statuses == [200, 412, 412, 412]
    assert len(api.list_repo_commits(repo)) == 2


def test_a_ref_that_has_moved_is_not_moved_again(tmp_path: Path) -> None:
    message = Message("ann", "one")
    with Histories(tmp_path).create(tmp_path / "repo") as git:
        first, second = (write_commit(git, {}, [], Message("ann", text)) for text in ("1", "2"))
        move_ref(git, branch_ref("main"), None, first.id)
        third = write_commit(git, {}, [second.id], message)

        with pytest.raises(Refusal):
            move_ref(git, branch_ref("main"), second.id, third.id)

        assert git.refs[branch_ref("main")] == first.id


def test_commits_at_the_same_time_all_land_when_none_names_its_head(api: HfApi, repo: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: add(api, repo, f"{number}.txt"), range(6)))

    assert {f"{number}.txt" for number in range(6)} <= set(api.list_repo_files(repo))


def test_the_same_content_can_be_written_by_several_at_once(tmp_path: Path) -> None:
    git = Repo.init_bare(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            content = f"{number}".encode() * 100_000
            ids = set(pool.map(partial(put_blob, git), [content] * 8))
            assert ids == {Blob.from_string(content).id.decode()}


def test_a_commit_with_one_bad_change_changes_nothing(http: httpx.Client, repo: str) -> None:
    good = ("file", {"path": "good.txt", "content": "aGk=", "encoding": "base64"})
    bad = ("deletedFile", {"path": "absent.txt"})

    answer = post(http, repo, good, bad)

    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "EntryNotFound")
    assert answer.json()["error"] == "A file with this name doesn't exist"
    tree = http.get(f"/api/models/{repo}/tree/main").json()
    assert [entry["path"] for entry in tree] == [".gitattributes"]


def test_a_path_that_could_leave_the_repo_is_refused(http: httpx.Client, repo: str) -> None:
    change = {"path": "a/../../x", "content": "aGk=", "encoding": "base64"}

    assert post(http, repo, ("file", change)).status_code == 400


@pytest.mark.parametrize("change", [{"content": "eA=="}, {"content": "eA==", "path": 7}])
def test_a_change_that_names_no_path_is_refused(
    http: httpx.Client, repo: str, change: dict[str, Any]
) -> None:
    answer = post(http, repo, ("file", change))

    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "A change of a commit names no path",
    )


def test_a_file_cannot_be_a_folder_too(api: HfApi, repo: str) -> None:
    add(api, repo, "a")

    with pytest.raises(BadRequestError, match="file and a folder"):
        add(api, repo, "a/b")


def test_a_folder_is_deleted_with_all_in_it(api: HfApi, repo: str) -> None:
    for path in ("f/a.txt", "f/g/b.txt", "fa.txt"):
        add(api, repo, path)

    api.create_commit(repo, [CommitOperationDelete("f/")], commit_message="Delete f")

    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "fa.txt"]


def test_a_commit_to_a_branch_that_is_missing_is_refused(api: HfApi, repo: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        add(api, repo, "a.txt", revision="absent")


def test_a_commit_without_a_summary_is_refused(http: httpx.Client, repo: str) -> None:
    body = '{"key": "header", "value": {"summary": " "}}'

    assert http.post(f"/api/models/{repo}/commit/main", content=body).status_code == 400


def test_a_commit_says_what_its_author_said(api: HfApi, repo: str) -> None:
    operations = [CommitOperationAdd("a.txt", b"x")]
    api.create_commit(
        repo, operations, commit_message="Mind the größe", commit_description="Why: π."
    )

    newest = api.list_repo_commits(repo)[0]

    assert (newest.title, newest.message) == ("Mind the größe", "Why: π.")
    assert newest.authors == ["local"]


def test_a_listing_tells_the_commit_that_last_changed_each_path(api: HfApi, repo: str) -> None:
    add(api, repo, "d/a.txt")
    add(api, repo, "b.txt")
    add(api, repo, "d/a.txt", b"changed")

    listed = api.list_repo_tree(repo, recursive=True, expand=True)

    titles = {entry.path: entry.last_commit.title for entry in listed if entry.last_commit}
    assert titles == {
        ".gitattributes": "initial commit",
        "b.txt": "Add b.txt",
        "d": "Add d/a.txt",
        "d/a.txt": "Add d/a.txt",
    }


def test_a_long_listing_comes_in_pages(api: HfApi, repo: str, hub: FaultyHub) -> None:
    operations = [CommitOperationAdd(f"f/{number}.txt", b"x") for number in range(1100)]
    api.create_commit(repo, operations, commit_message="Many")
    hub.faults.clear()

    files = api.list_repo_files(repo)

    assert len(files) == 1101
    assert hub.faults.requests("GET", "/tree/") == [200, 200]


def test_a_squashed_branch_has_one_commit_and_the_same_files(api: HfApi, repo: str) -> None:
    add(api, repo, "a.txt")
    before = api.list_repo_files(repo)

    api.super_squash_history(repo)

    assert len(api.list_repo_commits(repo)) == 1
    assert api.list_repo_files(repo) == before
