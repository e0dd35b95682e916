"""What an account has left is compared with a release before anything is uploaded."""

import pytest
from faulty_hub import FaultyHub, refuse

from hubq.client.client import Client
from hubq.client.storage import FREE_PRIVATE, Room, _limit, require_room, room_for, shortage
from hubq.embedded_hub.local import limit_storage, mint_token
from hubq.errors import UserError
from hubq.records.vocabulary import PUBLIC_HUB

REPO = "acme/x"


@pytest.fixture
def filled(client: Client) -> Client:
    """Give a client whose organization's private repos hold 3,000 bytes, and an open one 500."""
    client.api().create_repo(REPO, private=True)
    client.api().upload_file(path_or_fileobj=bytes(3000), path_in_repo="a.bin", repo_id=REPO)
    client.api().create_repo("acme/open")
    client.api().upload_file(path_or_fileobj=bytes(500), path_in_repo="a.bin", repo_id="acme/open")
    return client


def test_repos_that_are_as_private_are_counted(
    filled: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_STORAGE", "5 kB")

    private, opened = (room_for(REPO, filled, private=each) for each in (True, False))

    assert (private.used, private.left) == (3000, 2000)
    assert (opened.used, opened.left) == (500, 4500)


def test_what_does_not_fit_is_refused_with_what_is_needed_left_and_the_way_out(
    filled: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_STORAGE", "0.0041MB")

    require_room(1100, REPO, filled, private=True)
    with pytest.raises(UserError) as told:
        require_room(2_000_000, REPO, filled, private=True)

    assert "adds 2.0 MB, and there is 0.0 MB of 0.0 MB left for private repos of" in str(told.value)
    assert "publish openly" in str(told.value)
    assert str(told.value).endswith("HUBQ_STORAGE=1TB; nothing was uploaded")


def test_a_limit_that_is_no_amount_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_STORAGE", "lots")

    with pytest.raises(UserError, match="HUBQ_STORAGE is 'lots'; write an amount such as 100GB"):
        room_for(REPO, client, private=True)


def test_what_the_hub_does_not_tell_is_said_and_stops_nothing(
    filled: Client, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited = room_for(REPO, filled, private=True)
    monkeypatch.setenv("HUBQ_STORAGE", "1B")
    hub.faults.add(refuse("GET", "/api/spaces$", 403))

    unknown = room_for(REPO, filled, private=True)

    assert "this Hub names no limit; set HUBQ_STORAGE" in str(unlimited)
    assert str(unknown).startswith("not known used by private repos of acme")
    assert shortage(10**12, unlimited, filled) is shortage(10**12, unknown, filled) is None


@pytest.mark.parametrize(
    ("account", "told", "limit"),
    [
        ("ann", {"name": "ann", "isPro": False}, FREE_PRIVATE),
        ("ann", {"name": "ann", "isPro": True}, None),
        ("acme", {"name": "ann", "orgs": [{"name": "Acme", "isEnterprise": False}]}, FREE_PRIVATE),
        ("acme", {"name": "ann", "orgs": [{"name": "acme", "plan": "team"}]}, None),
        ("else", {"name": "ann", "orgs": []}, None),
    ],
)
def test_a_free_account_has_the_limit_that_the_hub_documents(
    account: str, told: dict[str, object], limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda _: told)
    client = Client(PUBLIC_HUB, "hf_x")

    assert _limit(account, client, private=True)[0] == limit
    assert _limit(account, client, private=False)[0] is None


def test_a_token_for_one_repo_tells_no_limit(filled: Client, hub: FaultyHub) -> None:
    token = mint_token(hub.root, user="ann", role="write", expires_in=60, only=REPO)

    room = room_for(REPO, Client(hub.endpoint, token), private=True)

    assert room.left is None


def test_a_room_without_a_limit_has_no_end() -> None:
    assert Room("acme", "open", None, 5, "why").left is None


def test_the_hubs_own_refusal_is_explained(filled: Client, hub: FaultyHub) -> None:
    limit_storage(hub.root, "acme", 3000)

    with pytest.raises(UserError) as told, filled.translate_errors("uploading"):
        filled.api().upload_file(path_or_fileobj=bytes(9), path_in_repo="b.bin", repo_id=REPO)

    assert "account's storage at http" in str(told.value)
    assert "Delete what isn't needed" in str(told.value)
