"""A release waits in a pull request until it was looked at; main sees nothing else."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_hub import FaultyHub, meanwhile, refuse
from huggingface_hub import CommitOperationAdd
from made_run import REPO, make_run
from unloaded import publish

from hubq.client.client import Client
from hubq.embedded_hub.local import limit_storage, mint_token
from hubq.errors import UserError
from hubq.machine.progress import Advance
from hubq.records.report import Report
from hubq.stages.compare.reports import find_siblings
from hubq.stages.publish import quick_start
from hubq.stages.publish.downloaded import judge
from hubq.stages.publish.staged import UNFIT

WAY = {"reader": "transformers", "dtype": "bfloat16", "trust": False, "packed": False}
COMMIT = r"/commit/main"


class Killed(BaseException):
    """What ends a process at once leaves as little behind."""


class Killing:
    """A Progress that ends all when a task begins."""

    def __init__(self, title: str) -> None:
        self.title = title

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        if title == self.title:
            raise Killed
        yield lambda steps: None


def publications(client: Client) -> list[str]:
    titles = [commit.title for commit in client.api().list_repo_commits(REPO)]
    return [title for title in titles if title.startswith("Publish")]


def test_a_release_comes_on_main_after_it_waited_in_a_request_that_is_closed(
    report: Report, run: Path, client: Client
) -> None:
    made = publish(report, run, client)

    details = client.api().get_discussion_details(REPO, 1)
    assert details.status == "closed"
    assert f"Published as {made.commit}." in [getattr(e, "content", "") for e in details.events]
    assert client.api().list_repo_refs(REPO, include_pull_requests=True).pull_requests == []
    assert len(publications(client)) == 1
    assert not (run / "staged.json").exists()


def test_after_a_kill_the_same_request_is_gone_on_with(
    report: Report, run: Path, client: Client
) -> None:
    with pytest.raises(Killed):
        publish(report, run, client, Killing("Downloading"))
    waiting = client.api().get_discussion_details(REPO, 1).status

    made = publish(report, run, client)

    assert waiting == "open"
    assert len(list(client.api().get_repo_discussions(REPO))) == 1
    assert client.api().get_discussion_details(REPO, 1).status == "closed"
    assert client.api().model_info(REPO).sha == made.commit
    assert len(publications(client)) == 1


def test_what_waits_of_another_release_is_cleared_away(
    report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        publish(report, run, client, Killing("Downloading"))
    other = tmp_path / "other"
    newer = make_run(other, seed=1)
    (run / "staged.json").rename(other / "staged.json")

    publish(newer, other, client)

    assert [each.status for each in client.api().get_repo_discussions(REPO)] == ["closed"] * 2
    assert client.api().list_repo_refs(REPO, include_pull_requests=True).pull_requests == []


def test_what_does_not_arrive_leaves_main_and_is_closed(
    report: Report, run: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.api().create_repo(REPO, private=True)
    before = client.api().model_info(REPO).sha
    usage = shutil.disk_usage

    def of_this_machine(path: Path) -> object:
        full = SimpleNamespace(total=10, used=10, free=0)  # the hub's disk is another one
        return full if Path(path).is_relative_to(run) else usage(path)

    monkeypatch.setattr("shutil.disk_usage", of_this_machine)

    with pytest.raises(UserError, match=r"not enough space on the disk of .*downloaded"):
        publish(report, run, client)

    assert client.api().model_info(REPO).sha == before
    details = client.api().get_discussion_details(REPO, 1)
    assert details.status == "closed"
    assert UNFIT in [getattr(event, "content", "") for event in details.events]
    assert client.api().list_repo_refs(REPO, include_pull_requests=True).pull_requests == []


def test_where_no_request_can_be_opened_it_waits_in_a_branch_that_is_deleted(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse(".*", "/discussions$", 403, times=100))

    publish(report, run, client)

    assert hub.faults.requests("POST", "/commit/hubq-[0-9a-f]{12}") == [200]
    assert [each.name for each in client.api().list_repo_refs(REPO).branches] == ["main"]
    assert len(publications(client)) == 1


def test_a_request_that_main_moved_away_from_is_closed_at_once(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    note = CommitOperationAdd("notes.txt", b"mine")
    move = partial(client.api().create_commit, REPO, [note], commit_message="By hand")
    hub.faults.add(meanwhile("POST", "/discussions$", move))

    with pytest.raises(UserError, match="changed during publishing"):
        publish(report, run, client)

    assert [each.status for each in client.api().get_repo_discussions(REPO)] == ["closed"]
    assert client.api().list_repo_refs(REPO, include_pull_requests=True).pull_requests == []


def test_a_token_for_one_repo_is_enough_for_that_repo(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    client.api().create_repo(REPO, private=True)
    token = mint_token(hub.root, user="ann", role="write", expires_in=60, only=REPO)

    publish(report, run, Client(hub.endpoint, token))

    assert len(publications(client)) == 1


def test_a_token_that_may_list_nothing_leaves_siblings_out_and_says_so(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    client.api().create_repo(REPO, private=True)
    token = mint_token(hub.root, user="ann", role="write", expires_in=60, only=REPO)
    hub.faults.add(refuse("GET", "/api/(models|datasets|spaces)$", 403, times=100))
    hub.faults.add(refuse("POST", "/api/repos/create", 403, times=100))
    told: list[str] = []
    narrow = Client(hub.endpoint, token)

    siblings = find_siblings(report, run, told.append, narrow)
    publish(report, run, narrow)

    assert siblings.entries == ()
    assert told == ["this token may not list acme's repos: siblings there are left out"]
    assert len(publications(client)) == 1


def test_a_token_for_another_repo_is_refused(report: Report, run: Path, hub: FaultyHub) -> None:
    token = mint_token(hub.root, user="ann", role="write", expires_in=60, only="acme/other")

    with pytest.raises(UserError, match="This token is for one repo"):
        publish(report, run, Client(hub.endpoint, token))


def side(folder: Path) -> dict[str, object]:
    return {"place": {"pretrained_model_name_or_path": str(folder)}, "folder": str(folder)}


def asked(there: Path, here: Path) -> dict[str, object]:
    windows = [list(range(16)), list(range(16, 32))]
    both = {"there": side(there), "here": side(here)}
    options = {"ways": [WAY], "windows": windows, "tokenizes": True, "compared": 8, "device": "cpu"}
    return {**both, **options}


def test_the_same_model_has_the_same_logits_and_another_one_is_told(
    tiny_model: Callable[[str], Path],
) -> None:
    llama, other = tiny_model("llama"), tiny_model("llama3.1")

    same = quick_start.answer(asked(llama, llama))
    different = quick_start.answer(asked(other, llama))

    (said,) = judge("acme/x", [WAY], same, ())
    assert said.startswith("loaded by transformers: the same logits as the local folder, bit for")
    with pytest.raises(UserError, match=r"gives logits that differ by .*\nmain is as it was"):
        judge("acme/x", [WAY], different, ())


def test_a_text_that_is_scored_otherwise_than_measured_is_told(
    tiny_model: Callable[[str], Path],
) -> None:
    llama = tiny_model("llama")
    answer = quick_start.answer(asked(llama, llama))
    losses = answer["ways"][0]["losses"]

    told = judge("acme/x", [WAY], answer, losses)

    assert told[1] == "2 windows of the report's text: within 0 nats of what it measured"
    with pytest.raises(UserError, match=r"scores a text of the report by 0.5 nats a token other"):
        judge("acme/x", [WAY], answer, [each + 0.5 for each in losses])


def test_what_an_organization_has_no_room_for_is_told_before_the_upload(
    report: Report, run: Path, client: Client, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_STORAGE", "1KB")

    with pytest.raises(UserError, match=r"not enough storage at .*(.|\n)*nothing was uploaded"):
        publish(report, run, client)

    assert hub.faults.requests("POST", "/preupload/") == []


def test_a_hub_that_has_no_room_leaves_main_and_is_told_apart_from_a_token_that_may_not(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    limit_storage(hub.root, "acme", 1000)

    with pytest.raises(UserError, match=r"account's storage at .* is full: Private repository sto"):
        publish(report, run, client)

    assert client.api().list_repo_files(REPO) == [".gitattributes"]
