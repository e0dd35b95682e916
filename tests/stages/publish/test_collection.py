"""The collection of a base's releases: found again, sorted by bits, showing nothing private."""

import pytest
from faulty_hub import FaultyHub, drop, refuse

from hubq.client.client import Client
from hubq.embedded_hub.local import mint_token
from hubq.errors import UserError
from hubq.stages.publish.collection import Wanted, collect

BASE = "meta-llama/Meta-Llama-3-8B"
BITS = {"acme/two": 2.3, "acme/four": 4.3, "acme/eight": 8.4}
POSTS = ("(POST|PATCH)", "/api/collections")


@pytest.fixture
def repos(client: Client) -> None:
    for repo in BITS:
        client.api().create_repo(repo)


def put(client: Client, repo: str, *, private: bool = False, title: str | None = None) -> str:
    return collect(repo, BITS, Wanted(BASE, private, title), client)


def slug(url: str) -> str:
    return url.partition("/collections/")[2]


def held(client: Client, url: str) -> list[str]:
    return [each.item_id for each in client.api().get_collection(slug(url)).items]


@pytest.mark.usefixtures("repos")
def test_a_collection_is_made_of_all_that_is_published_sorted_by_bits(client: Client) -> None:
    url = put(client, "acme/four")

    made = client.api().get_collection(slug(url))
    assert (made.title, made.private) == ("Meta-Llama-3-8B quantized", False)
    assert len(made.description or "") <= 150
    assert held(client, url) == ["acme/two", "acme/four", "acme/eight"]


@pytest.mark.usefixtures("repos")
def test_a_second_time_changes_nothing(client: Client, hub: FaultyHub) -> None:
    url = put(client, "acme/four")
    hub.faults.clear()

    assert put(client, "acme/four") == url

    assert hub.faults.requests(*POSTS) == []


@pytest.mark.usefixtures("repos")
def test_a_collection_with_another_title_is_found_again(client: Client) -> None:
    url = put(client, "acme/four")
    client.api().update_collection_metadata(slug(url), title="Our small llamas")

    again = put(client, "acme/two")

    assert slug(again) == slug(url)


@pytest.mark.usefixtures("repos")
def test_what_was_taken_out_stays_out_and_what_others_put_in_keeps_its_place(
    client: Client,
) -> None:
    url, api = put(client, "acme/four"), client.api()
    api.create_repo("acme/by-hand")
    for each in api.get_collection(slug(url)).items:
        if each.item_id != "acme/eight":
            api.delete_collection_item(slug(url), each.item_object_id)
    api.add_collection_item(slug(url), "acme/by-hand", "model")

    put(client, "acme/two")

    assert held(client, url) == ["acme/two", "acme/by-hand", "acme/eight"]


@pytest.mark.usefixtures("repos")
def test_a_title_that_somebody_else_has_is_left_to_them(client: Client) -> None:
    theirs = client.api().create_collection("Meta-Llama-3-8B quantized", namespace="acme")

    url = put(client, "acme/four")

    made = client.api().get_collection(slug(url))
    assert (made.slug != theirs.slug, made.title) == (True, f"{BASE} quantized")
    assert client.api().get_collection(theirs.slug).items == []


@pytest.mark.usefixtures("repos")
def test_a_private_release_gets_a_private_collection(client: Client) -> None:
    public = put(client, "acme/four")
    private = put(client, "acme/four", private=True)

    made = client.api().get_collection(slug(private))
    assert (slug(private) != slug(public), made.private) == (True, True)
    assert put(client, "acme/two", private=True) == private
    assert put(client, "acme/two") == public


@pytest.mark.usefixtures("repos")
def test_a_named_collection_is_used_unless_it_would_show_what_is_private(client: Client) -> None:
    theirs = client.api().create_collection("Edge models", namespace="acme")

    url = put(client, "acme/four", title="Edge models")

    assert slug(url) == theirs.slug
    with pytest.raises(UserError, match="'Edge models' of acme is public, and acme/two is private"):
        put(client, "acme/two", private=True, title="Edge models")
    assert "acme/two" in held(client, url)  # as one of those that are public


@pytest.mark.usefixtures("repos")
def test_a_lost_reply_makes_no_second_collection_and_no_second_item(
    client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(
        drop("POST", "/api/collections$", after=True), drop("POST", "/items$", after=True)
    )

    url = put(client, "acme/four")

    assert len(list(client.api().list_collections(owner="acme"))) == 1
    assert held(client, url) == ["acme/two", "acme/four", "acme/eight"]


@pytest.mark.usefixtures("repos")
def test_a_token_that_may_not_make_collections_is_told(client: Client, hub: FaultyHub) -> None:
    narrow = mint_token(hub.root, user="ann", role="write", expires_in=None, only="acme/four")

    with pytest.raises(
        UserError, match=r"adding acme/four to a collection of acme failed: .*allow"
    ):
        put(Client(hub.endpoint, narrow, client.retries), "acme/four")


@pytest.mark.usefixtures("repos")
def test_a_busy_hub_is_asked_again(client: Client, hub: FaultyHub) -> None:
    hub.faults.add(refuse("GET", "/api/collections$", 503))

    assert held(client, put(client, "acme/four"))[0] == "acme/two"
