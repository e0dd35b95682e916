"""Cards learn of what was published after them, by one pull request each, where one is due."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, drop, refuse
from huggingface_hub import CommitOperationAdd
from made_adaptation import OWN_REPO, make_adapted
from made_run import REPO, make_run
from unloaded import publish_adapted

from hubq.client.client import Client
from hubq.machine.progress import SILENT
from hubq.records.attestation import Statement
from hubq.records.run_folder import ATTESTATION_IN_A_REPO
from hubq.stages.card.check import differences
from hubq.stages.compare.releases import releases
from hubq.stages.publish.attestation import attested
from hubq.stages.publish.release import assemble
from hubq.stages.publish.row_requests import Renewed, only_rows_since
from hubq.stages.publish.sibling_rows import renew_rows
from hubq.stages.publish.signing import Signing

OTHER, THIRD = "acme/Tiny-Llama-GPTQ-3bit", "acme/Tiny-Llama-RTN-8bit"
BASE = "meta-llama/Meta-Llama-3-8B"


def quiet(sentence: str) -> None:
    raise AssertionError(sentence)


Publish = Callable[..., None]
Files = dict[str, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Files]:
    """Return the files of a release as its run leaves it, which knows of no others."""

    @cache
    def files(repo: str, private: bool) -> Files:
        run = tmp_path_factory.mktemp("run")
        report = make_run(run, repo, private=private, seed=len(repo))
        listed = attested(assemble(report, run, SILENT), run, Signing())
        return {path: file.path for path, file in listed.items()}

    return files


@pytest.fixture
def published(client: Client, made: Callable[[str, bool], Files]) -> Publish:
    """Put a release on the hub; return what puts another there."""

    def put(repo: str, *, private: bool = False) -> None:
        client.api().create_repo(repo, private=private)
        files = [CommitOperationAdd(*each) for each in made(repo, private).items()]
        client.api().create_commit(repo, files, commit_message="Publish")

    put(REPO)
    return put


def renewed(client: Client, how: str = "propose", new: str = OTHER) -> list[Renewed]:
    family = releases("acme", client, quiet, BASE)
    return renew_rows(
        family, client, "commit" if how == "commit" else "propose", new=frozenset({new})
    )


def ours(client: Client, repo: str = REPO) -> list[tuple[int, str]]:
    return [(each.num, str(each.status)) for each in client.api().get_repo_discussions(repo)][::-1]


def card(client: Client, revision: str = "main", repo: str = REPO) -> str:
    return Path(client.api().hf_hub_download(repo, "README.md", revision=revision)).read_text()


def test_a_card_gets_its_row_by_a_pull_request(
    client: Client, published: Publish, tmp_path: Path
) -> None:
    published(OTHER)

    (found,) = renewed(client)

    assert (found.done, ours(client)) == ("proposed", [(1, "open")])
    assert found.where == f"{client.url}/{REPO}/discussions/1"
    assert OTHER not in card(client)
    client.api().merge_pull_request(REPO, 1)
    assert OTHER in card(client)
    client.api().snapshot_download(REPO, local_dir=tmp_path / "copy")
    assert differences(tmp_path / "copy") == []


def test_nothing_but_the_card_changes(client: Client, published: Publish) -> None:
    published(OTHER)
    before = {each.path: each for each in client.api().list_repo_tree(REPO, recursive=True)}

    renewed(client)

    after = client.api().list_repo_tree(REPO, recursive=True, revision="refs/pr/1")
    changed = {each.path for each in after if before.get(each.path) != each}
    assert changed <= {
        "README.md",
        "hubq/attestation.json",
        "hubq/siblings.json",
        "images/bits.png",
        "images/bits-dark.png",
    } | {
        "images",
        "hubq",
    }
    assert "README.md" in changed


def test_a_row_that_is_right_opens_nothing(client: Client, published: Publish) -> None:
    published(OTHER)
    renewed(client)
    client.api().merge_pull_request(REPO, 1)

    (again,) = renewed(client)

    assert (again.done, ours(client)) == ("right", [(1, "merged")])


def test_one_request_is_open_and_follows_what_is_published(
    client: Client, published: Publish
) -> None:
    published(OTHER)
    renewed(client)
    published(THIRD)

    found = renewed(client, new=THIRD)

    assert [each.done for each in found] == ["proposed", "proposed"]
    assert (ours(client), ours(client, OTHER)) == ([(1, "open")], [(1, "open")])
    assert THIRD in card(client, "refs/pr/1")
    assert renewed(client, new=THIRD)[-1].where == f"{client.url}/{REPO}/discussions/1"
    assert len(client.api().list_repo_commits(REPO, revision="refs/pr/1")) == 4


def test_a_request_upon_another_main_is_replaced(client: Client, published: Publish) -> None:
    published(OTHER)
    renewed(client)
    client.api().create_commit(
        REPO, [CommitOperationAdd("NOTES.md", b"By hand")], commit_message="Note"
    )

    renewed(client)

    assert ours(client) == [(1, "closed"), (2, "open")]
    client.api().merge_pull_request(REPO, 2)
    assert OTHER in card(client)


def test_what_was_declined_is_not_asked_again(client: Client, published: Publish) -> None:
    published(OTHER)
    renewed(client)
    client.api().change_discussion_status(REPO, 1, "closed")

    (found,) = renewed(client)

    assert (found.done, ours(client)) == ("declined", [(1, "closed")])


def test_a_card_edited_elsewhere_keeps_the_edit(client: Client, published: Publish) -> None:
    published(OTHER)
    edited = card(client).replace("# Tiny", "# By hand: Tiny").encode()
    client.api().create_commit(REPO, [CommitOperationAdd("README.md", edited)], commit_message="Me")

    renewed(client)

    assert OTHER in card(client, "refs/pr/1")
    assert "By hand" in card(client, "refs/pr/1")


def test_a_section_that_was_edited_is_left_alone_and_told(
    client: Client, published: Publish
) -> None:
    published(OTHER)
    edited = card(client).replace("No other releases", "None of the other releases").encode()
    client.api().create_commit(REPO, [CommitOperationAdd("README.md", edited)], commit_message="Me")

    (found,) = renewed(client)

    assert (found.done, ours(client)) == ("left", [])
    assert "edited by hand" in str(found.why)


def test_it_can_be_committed_at_once(client: Client, published: Publish) -> None:
    published(OTHER)
    renewed(client)

    (found,) = renewed(client, "commit")

    assert (found.done, ours(client)) == ("committed", [(1, "closed")])
    assert OTHER in card(client)


def test_what_attests_the_files_follows_them(client: Client, published: Publish) -> None:
    published(OTHER)
    renewed(client, "commit")

    whole = Path(client.api().snapshot_download(REPO))

    stated = Statement.load(whole / ATTESTATION_IN_A_REPO).files
    held = {
        path.relative_to(whole).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in whole.rglob("*")
        if path.is_file()
    }
    assert stated == {
        path: digest
        for path, digest in held.items()
        if path not in (ATTESTATION_IN_A_REPO, ".gitattributes")
    }


def test_a_card_that_somebody_signed_is_left_alone(client: Client, published: Publish) -> None:
    published(OTHER)
    path = Path(client.api().hf_hub_download(REPO, ATTESTATION_IN_A_REPO))
    signed = path.read_bytes().replace(b'"how": "none"', b'"how": "identity"')
    client.api().upload_file(
        path_or_fileobj=signed, path_in_repo=ATTESTATION_IN_A_REPO, repo_id=REPO
    )

    (found,) = renewed(client)

    assert found.done == "left"
    assert "is signed, its card too" in (found.why or "")


def test_rows_are_told_from_other_edits(client: Client, published: Publish) -> None:
    first = client.api().model_info(REPO).sha
    assert first is not None
    published(OTHER)
    renewed(client, "commit")
    assert only_rows_since(first, REPO, client)

    client.api().upload_file(path_or_fileobj=b"mine", path_in_repo="mine", repo_id=REPO)

    assert not only_rows_since(first, REPO, client)
    assert not only_rows_since("0" * 40, REPO, client)


def test_an_adapter_is_a_row_and_has_no_table(
    client: Client, published: Publish, tmp_path: Path
) -> None:
    run = tmp_path / "adapting"
    publish_adapted(make_adapted(run, make_run(run, OTHER)), run, client)
    published(THIRD)

    found = renewed(client, new=THIRD)

    assert [each.repo for each in found] == [OTHER, REPO]
    assert OWN_REPO not in card(client, "refs/pr/1")  # which is public, and the adapter private
    assert THIRD in card(client, "refs/pr/2", OTHER)


def test_a_private_release_is_no_row_of_a_public_card(client: Client, published: Publish) -> None:
    published(OTHER, private=True)

    (found,) = renewed(client)

    assert (found.done, ours(client)) == ("right", [])


def test_a_lost_reply_opens_no_second_request(
    client: Client, hub: FaultyHub, published: Publish
) -> None:
    published(OTHER)
    hub.faults.add(drop("POST", "/commit/main", after=True))

    (found,) = renewed(client)

    assert (found.done, ours(client)) == ("proposed", [(1, "open")])


def test_what_can_not_be_renewed_does_not_stop_the_others(
    client: Client, hub: FaultyHub, published: Publish
) -> None:
    published(OTHER)
    published(THIRD)
    hub.faults.add(refuse("POST", f"/{OTHER}/commit", 403, times=9))

    found = renewed(client, new=THIRD)

    assert [(each.repo, each.done) for each in found] == [(OTHER, "left"), (REPO, "proposed")]
    assert "does not allow this with this token" in str(found[0].why)
