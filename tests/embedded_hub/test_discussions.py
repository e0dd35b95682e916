"""Pull requests and discussions, from the first word to the merge."""

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError


def propose(api: HfApi, repo: str, path: str, content: bytes = b"x") -> int:
    made = api.create_commit(
        repo, [CommitOperationAdd(path, content)], commit_message=f"Add {path}", create_pr=True
    )
    assert made.pr_num is not None
    return int(made.pr_num)


def test_who_may_not_write_may_propose(stranger: HfApi, repo: str) -> None:
    number = propose(stranger, repo, "a.bin", bytes(3000))

    details = stranger.get_discussion_details(repo, number)
    assert (details.status, details.author, details.is_pull_request) == ("open", "eve", True)
    assert "+size 3000" in str(details.diff)
    assert "a.bin" not in stranger.list_repo_files(repo)


def test_a_proposal_grows_by_commits_to_its_ref(stranger: HfApi, repo: str) -> None:
    number = propose(stranger, repo, "a.txt")

    stranger.upload_file(
        path_or_fileobj=b"y", path_in_repo="b.txt", repo_id=repo, revision=f"refs/pr/{number}"
    )

    files = stranger.list_repo_files(repo, revision=f"refs/pr/{number}")
    assert {"a.txt", "b.txt"} <= set(files)


def test_a_proposal_is_not_anybodys_to_push_to(api: HfApi, stranger: HfApi) -> None:
    api.create_repo("local/model")
    number = propose(api, "local/model", "a.txt")

    with pytest.raises(HfHubHTTPError) as caught:
        stranger.upload_file(
            path_or_fileobj=b"y",
            path_in_repo="b.txt",
            repo_id="local/model",
            revision=f"refs/pr/{number}",
        )

    assert caught.value.response.status_code == 403


def test_a_pull_request_starts_as_a_draft_and_opens_with_its_first_commit(
    api: HfApi, repo: str
) -> None:
    made = api.create_pull_request(repo, "Later")
    before = made.status

    api.upload_file(
        path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo, revision=made.git_reference
    )

    assert (before, api.get_discussion_details(repo, made.num).status) == ("draft", "open")


def test_a_merge_brings_additions_and_deletions(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"x", path_in_repo="old.txt", repo_id=repo)
    number = propose(api, repo, "new.txt")
    api.create_commit(
        repo,
        [CommitOperationDelete("old.txt")],
        commit_message="Delete old.txt",
        revision=f"refs/pr/{number}",
    )
    api.upload_file(path_or_fileobj=b"x", path_in_repo="meanwhile.txt", repo_id=repo)

    api.merge_pull_request(repo, number, comment="Thanks")

    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "meanwhile.txt", "new.txt"]
    assert api.list_repo_commits(repo)[0].title == f"Add new.txt (#{number})"
    details = api.get_discussion_details(repo, number)
    assert details.merge_commit_oid == api.model_info(repo).sha
    assert [event.type for event in details.events][-2:] == ["comment", "status-change"]


def test_a_merge_that_conflicts_is_refused(api: HfApi, repo: str) -> None:
    number = propose(api, repo, "a.txt", b"theirs")
    api.upload_file(path_or_fileobj=b"ours", path_in_repo="a.txt", repo_id=repo)

    assert api.get_discussion_details(repo, number).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError) as caught:
        api.merge_pull_request(repo, number)
    assert caught.value.response.status_code == 409


def test_only_writers_merge(stranger: HfApi, repo: str) -> None:
    number = propose(stranger, repo, "a.txt")

    with pytest.raises(HfHubHTTPError) as caught:
        stranger.merge_pull_request(repo, number)

    assert caught.value.response.status_code == 403


def test_a_closed_pull_request_takes_no_commits(api: HfApi, repo: str) -> None:
    number = propose(api, repo, "a.txt")
    api.change_discussion_status(repo, number, "closed")

    with pytest.raises(HfHubHTTPError):
        api.upload_file(
            path_or_fileobj=b"x", path_in_repo="b", repo_id=repo, revision=f"refs/pr/{number}"
        )


def test_a_proposal_that_is_refused_leaves_none_behind(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError):
        api.create_commit(
            repo, [CommitOperationDelete("absent")], commit_message="Delete", create_pr=True
        )

    assert list(api.get_repo_discussions(repo)) == []


def test_pull_requests_are_refs(api: HfApi, repo: str) -> None:
    number = propose(api, repo, "a.txt")

    refs = api.list_repo_refs(repo, include_pull_requests=True).pull_requests

    assert [ref.ref for ref in refs or []] == [f"refs/pr/{number}"]


def test_a_discussion_remembers_what_was_said_and_done(
    api: HfApi, stranger: HfApi, repo: str
) -> None:
    number = stranger.create_discussion(repo, "Why?", description="I wonder.").num
    said = api.comment_discussion(repo, number, "Because.")
    api.edit_discussion_comment(repo, number, said.id, "Because so.")
    api.rename_discussion(repo, number, "Why not?")
    api.change_discussion_status(repo, number, "closed", comment="Enough")

    details = api.get_discussion_details(repo, number)

    assert (details.title, details.status) == ("Why not?", "closed")
    texts = [getattr(event, "content", event.type) for event in details.events]
    assert texts == ["I wonder.", "Because so.", "title-change", "Enough", "status-change"]
    assert details.events[1].edited  # type: ignore[attr-defined]


def test_another_ones_words_cannot_be_changed(api: HfApi, stranger: HfApi, repo: str) -> None:
    number = api.create_discussion(repo, "Why?", description="I wonder.").num
    first = api.get_discussion_details(repo, number).events[0]

    with pytest.raises(HfHubHTTPError) as caught:
        stranger.edit_discussion_comment(repo, number, first.id, "I don't.")

    assert caught.value.response.status_code == 403


def test_discussions_are_listed_by_kind_and_status(api: HfApi, repo: str) -> None:
    pull = propose(api, repo, "a.txt")
    talk = api.create_discussion(repo, "Why?").num
    api.change_discussion_status(repo, talk, "closed")

    def numbers(**filters: str) -> list[int]:
        return [one.num for one in api.get_repo_discussions(repo, **filters)]  # type: ignore[arg-type]

    assert numbers() == [talk, pull]
    assert numbers(discussion_type="pull_request") == [pull]
    assert numbers(discussion_status="closed") == [talk]
