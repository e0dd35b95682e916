import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, cut, faulty_hub, flip, refuse
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from made_run import REPO, make_run
from unloaded import publish

from hubq.client.client import Client
from hubq.client.pull import is_read, pull
from hubq.client.retries import RetryPolicy
from hubq.embedded_hub.local import add_user, mint_token
from hubq.errors import UserError
from hubq.machine.progress import Advance

WEIGHTS = r"/resolve/.*/model.safetensors"
CONFIG = r"/resolve/.*/config.json"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    """Serve a hub that holds a release; the client's cache is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with faulty_hub(tmp_path / "hub", user="ann", org="acme", wait=False) as running:
        publish(
            make_run(tmp_path / "run"), tmp_path / "run", Client(running.endpoint, running.token)
        )
        running.faults.clear()
        yield running


@pytest.fixture
def client(hub: FaultyHub) -> Client:
    return Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))


@pytest.fixture
def without_xet(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Download over plain HTTP what was uploaded through Xet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "run/model"


def test_what_was_published_comes_back(client: Client, model: Path) -> None:
    place = pull(REPO, None, client)

    for path in model.iterdir():
        assert (place / path.name).read_bytes() == path.read_bytes()


def test_files_go_where_from_pretrained_finds_them(client: Client, tmp_path: Path) -> None:
    place = pull(REPO, None, client)

    assert place.is_relative_to(tmp_path / "cache")
    assert place.name == client.api().model_info(REPO).sha


def test_files_go_into_a_folder_that_is_named(client: Client, tmp_path: Path) -> None:
    place = pull(REPO, tmp_path / "here", client)

    assert place == tmp_path / "here"
    assert (place / "hubq/report.json").is_file()


def test_no_loader_reads_who_vouches_for_a_release() -> None:
    assert not any(map(is_read, ("model.sig", "hubq/attestation.json")))


def test_a_revision_can_be_named(client: Client) -> None:
    founding = client.api().list_repo_commits(REPO)[-1].commit_id

    place = pull(f"{REPO}@{founding}", None, client)

    assert [path.name for path in place.iterdir()] == [".gitattributes"]


def test_pulling_twice_downloads_once(client: Client, hub: FaultyHub) -> None:
    pull(REPO, None, client)
    hub.faults.clear()

    pull(REPO, None, client)

    assert hub.faults.requests("GET", "/resolve/") == []


@pytest.mark.usefixtures("without_xet")
def test_a_flipped_byte_over_http_is_fetched_again(
    client: Client, hub: FaultyHub, model: Path
) -> None:
    hub.faults.add(flip("GET", WEIGHTS, 5000))

    place = pull(REPO, None, client)

    expected = (model / "model.safetensors").read_bytes()
    assert (place / "model.safetensors").read_bytes() == expected
    assert len(hub.faults.requests("GET", WEIGHTS)) == 2


def test_a_flipped_byte_in_a_small_file_is_fetched_again(
    client: Client, hub: FaultyHub, model: Path
) -> None:
    hub.faults.add(flip("GET", CONFIG, 3))

    place = pull(REPO, None, client)

    assert (place / "config.json").read_bytes() == (model / "config.json").read_bytes()


def test_a_flipped_byte_over_xet_is_fetched_again(
    client: Client, hub: FaultyHub, model: Path
) -> None:
    hub.faults.add(flip("GET", "/xet/.*/xorbs/", 5000))

    place = pull(REPO, None, client)

    expected = (model / "model.safetensors").read_bytes()
    assert (place / "model.safetensors").read_bytes() == expected


@pytest.mark.usefixtures("without_xet")
def test_a_file_that_is_damaged_twice_is_refused_and_deleted(
    client: Client, hub: FaultyHub, tmp_path: Path
) -> None:
    hub.faults.add(flip("GET", WEIGHTS, 5000, times=2))

    with pytest.raises(UserError, match=r"model.safetensors of .* arrived damaged twice"):
        pull(REPO, tmp_path / "here", client)

    assert not (tmp_path / "here/model.safetensors").exists()


def test_of_a_damaged_file_nothing_is_deleted_outside_the_cache(
    client: Client, tmp_path: Path
) -> None:
    place = pull(REPO, None, client)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (place / "config.json").unlink()
    (place / "config.json").symlink_to(precious)

    with pytest.raises(UserError, match="arrived damaged twice"):
        pull(REPO, None, client)

    assert precious.read_text() == "mine"
    assert not (place / "config.json").is_symlink()


def test_damage_on_this_disk_is_mended(client: Client, model: Path, tmp_path: Path) -> None:
    place = pull(REPO, tmp_path / "here", client)
    (place / "config.json").write_text("{}")

    pull(REPO, tmp_path / "here", client)

    assert (place / "config.json").read_bytes() == (model / "config.json").read_bytes()


def test_a_file_that_no_download_brought_is_not_overwritten(client: Client, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")

    with pytest.raises(UserError, match=r"config.json already exists and differs"):
        pull(REPO, tmp_path, client)

    assert (tmp_path / "config.json").read_text() == "mine"
    assert not (tmp_path / "model.safetensors").exists()


# Takes over a second: huggingface_hub sleeps one before it resumes.
@pytest.mark.usefixtures("without_xet")
def test_a_download_that_was_cut_off_goes_on(client: Client, hub: FaultyHub, model: Path) -> None:
    hub.faults.add(cut("GET", WEIGHTS, 1000))

    place = pull(REPO, None, client)

    expected = (model / "model.safetensors").read_bytes()
    assert (place / "model.safetensors").read_bytes() == expected


# The listing takes over a second: there huggingface_hub sleeps one before it asks again.
@pytest.mark.parametrize("path", ["/api/models/acme/", "/tree/", CONFIG])
def test_a_hub_that_is_down_for_a_moment_is_asked_again(
    client: Client, hub: FaultyHub, path: str
) -> None:
    hub.faults.add(refuse("GET|HEAD", path, 503))

    place = pull(REPO, None, client)

    assert (place / "config.json").is_file()


def test_a_release_that_was_changed_after_its_measuring_is_refused(client: Client) -> None:
    changed = CommitOperationAdd("config.json", b"{}")
    client.api().create_commit(REPO, [changed], commit_message="By hand")

    with pytest.raises(UserError, match=r"config.json of .* is not the file that was measured"):
        pull(REPO, None, client)


def test_a_release_that_lacks_a_measured_file_is_refused(client: Client) -> None:
    gone = CommitOperationDelete("tokenizer.json")
    client.api().create_commit(REPO, [gone], commit_message="By hand")

    with pytest.raises(UserError, match=r"tokenizer.json of .* is missing, though it was measured"):
        pull(REPO, None, client)


@pytest.mark.parametrize(
    "path", ["adapter_config.json", "chat_template.jinja", "old/merges.txt", "modeling_x.py"]
)
def test_a_release_with_a_file_that_a_loader_might_read_unmeasured_is_refused(
    client: Client, path: str
) -> None:
    added = CommitOperationAdd(path, b"{}")
    client.api().create_commit(REPO, [added], commit_message="By hand")

    with pytest.raises(UserError, match=rf"{path} of .* was added after it was measured"):
        pull(REPO, None, client)


@pytest.mark.parametrize("path", ["NOTES.md", "figures/loss.png", ".eval_results/xsum.yaml"])
def test_a_release_with_a_file_that_no_loader_reads_is_taken(client: Client, path: str) -> None:
    added = CommitOperationAdd(path, b"more")
    client.api().create_commit(REPO, [added], commit_message="By hand")

    place = pull(REPO, None, client)

    assert (place / path).read_bytes() == b"more"


def test_a_report_that_is_none_is_refused(client: Client) -> None:
    nonsense = CommitOperationAdd("hubq/report.json", json.dumps({"checkpoint": 1}).encode())
    client.api().create_commit(REPO, [nonsense], commit_message="By hand")

    with pytest.raises(UserError, match="is not a hubq report"):
        pull(REPO, None, client)


def test_a_repo_that_hubq_did_not_make_can_be_pulled(client: Client) -> None:
    client.api().create_repo("acme/other")
    other = CommitOperationAdd("a/b/c.txt", b"hello")
    client.api().create_commit("acme/other", [other], commit_message="By hand")

    place = pull("acme/other", None, client)

    assert (place / "a/b/c.txt").read_bytes() == b"hello"


def test_a_repo_without_files_is_called_so(client: Client) -> None:
    client.api().create_repo("acme/void")
    everything = CommitOperationDelete(".gitattributes")
    client.api().create_commit("acme/void", [everything], commit_message="By hand")

    with pytest.raises(UserError, match="acme/void holds no files"):
        pull("acme/void", None, client)


def test_an_unknown_repo_is_called_so(client: Client) -> None:
    with pytest.raises(UserError, match=r"shows no repo acme/nothing to this account"):
        pull("acme/nothing", None, client)


def test_an_unknown_revision_is_called_so(client: Client) -> None:
    with pytest.raises(UserError, match="doesn't have this revision"):
        pull(f"{REPO}@nowhere", None, client)


def test_a_private_repo_is_hidden_from_strangers(hub: FaultyHub) -> None:
    add_user(hub.root, "bob")
    token = mint_token(hub.root, user="bob", role="read", expires_in=None)

    with pytest.raises(UserError, match="if it is private, log in as an account with access"):
        pull(REPO, None, Client(hub.endpoint, token))


def test_a_gated_repo_says_how_to_ask_for_access(client: Client, hub: FaultyHub) -> None:
    client.api().update_repo_settings(REPO, private=False, gated="manual")
    add_user(hub.root, "bob")
    token = mint_token(hub.root, user="bob", role="read", expires_in=None)

    with pytest.raises(UserError, match=rf"{REPO} is gated(.|\n)*Ask for it at {hub.endpoint}"):
        pull(REPO, None, Client(hub.endpoint, token))


def test_something_that_is_no_name_is_called_so(client: Client) -> None:
    with pytest.raises(UserError, match="is not a repo name"):
        pull("a/b/c", None, client)


def test_progress_ends_at_the_size_of_the_repo(client: Client) -> None:
    class Counting:
        def __init__(self) -> None:
            self.open: dict[str, int] = {}

        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Advance]:
            self.open[title] = total

            def advance(steps: int) -> None:
                self.open[title] -= steps

            yield advance

    progress = Counting()

    pull(REPO, None, client, progress)

    assert progress.open == {"Downloading": 0, "Checking files": 0}
