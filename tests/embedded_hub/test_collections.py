"""Collections: made, filled, reordered, seen by whom they may be seen."""

import pytest
from huggingface_hub import Collection, HfApi
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def collection(api: HfApi, repo: str) -> Collection:
    """Make a collection with the model in it."""
    made = api.create_collection("4-bit models", namespace="acme", description="All of them")
    return api.add_collection_item(made.slug, repo, "model", note="The first")


def test_a_collection_holds_what_was_put_in(api: HfApi, collection: Collection, repo: str) -> None:
    found = api.get_collection(collection.slug)

    assert (found.title, found.description) == ("4-bit models", "All of them")
    assert [(item.item_id, item.item_type, item.note) for item in found.items] == [
        (repo, "model", "The first")
    ]


def test_a_title_that_exists_leads_to_the_collection(api: HfApi, collection: Collection) -> None:
    again = api.create_collection("4-bit models", namespace="acme", exists_ok=True)

    assert again.slug == collection.slug


def test_an_item_is_in_a_collection_once(api: HfApi, collection: Collection, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        api.add_collection_item(collection.slug, repo, "model")

    assert caught.value.response.status_code == 409
    assert len(api.add_collection_item(collection.slug, repo, "model", exists_ok=True).items) == 1


def test_items_can_be_reordered(api: HfApi, collection: Collection, repo: str) -> None:
    api.create_repo("acme/second")
    both = api.add_collection_item(collection.slug, "acme/second", "model")

    api.update_collection_item(collection.slug, both.items[1].item_object_id, position=0)

    found = api.get_collection(collection.slug)
    assert [item.item_id for item in found.items] == ["acme/second", repo]


def test_an_item_can_be_taken_out(api: HfApi, collection: Collection) -> None:
    item = collection.items[0].item_object_id

    api.delete_collection_item(collection.slug, item)

    assert api.get_collection(collection.slug).items == []
    api.delete_collection_item(collection.slug, item, missing_ok=True)


def test_what_is_said_about_a_collection_can_change(api: HfApi, collection: Collection) -> None:
    changed = api.update_collection_metadata(collection.slug, title="W4", theme="blue")

    assert (changed.title, changed.theme, changed.slug) == ("W4", "blue", collection.slug)


def test_a_missing_repo_cannot_be_an_item(api: HfApi, collection: Collection) -> None:
    with pytest.raises(HfHubHTTPError):
        api.add_collection_item(collection.slug, "acme/absent", "model")


def test_a_stranger_sees_a_collection_without_its_private_items(
    api: HfApi, stranger: HfApi, collection: Collection, repo: str
) -> None:
    api.update_repo_settings(repo, private=True)

    assert stranger.get_collection(collection.slug).items == []
    with pytest.raises(HfHubHTTPError) as caught:
        stranger.delete_collection(collection.slug)
    assert caught.value.response.status_code == 403


def test_a_private_collection_is_its_owners(api: HfApi, nobody: HfApi) -> None:
    made = api.create_collection("Drafts", namespace="acme", private=True)

    assert [one.slug for one in api.list_collections(owner="acme")] == [made.slug]
    assert list(nobody.list_collections(owner="acme")) == []
    with pytest.raises(HfHubHTTPError):
        nobody.get_collection(made.slug)


def test_collections_are_found_by_an_item(api: HfApi, collection: Collection, repo: str) -> None:
    api.create_collection("Empty", namespace="acme")

    found = list(api.list_collections(item=f"models/{repo}"))

    assert [one.slug for one in found] == [collection.slug]


def test_a_deleted_collection_is_gone(api: HfApi, collection: Collection) -> None:
    api.delete_collection(collection.slug)

    with pytest.raises(HfHubHTTPError):
        api.get_collection(collection.slug)
    api.delete_collection(collection.slug, missing_ok=True)


def test_a_list_shows_the_first_four_items_of_a_collection(
    api: HfApi, collection: Collection
) -> None:
    for number in range(4):
        api.create_repo(f"acme/more-{number}")
        api.add_collection_item(collection.slug, f"acme/more-{number}", "model")

    (listed,) = api.list_collections(owner="acme")

    assert (len(listed.items), len(api.get_collection(collection.slug).items)) == (4, 5)


def test_a_description_has_at_most_150_characters(api: HfApi, collection: Collection) -> None:
    with pytest.raises(HfHubHTTPError) as made:
        api.create_collection("Long", namespace="acme", description="a" * 151)
    with pytest.raises(HfHubHTTPError) as changed:
        api.update_collection_metadata(collection.slug, description="a" * 151)

    assert [each.value.response.status_code for each in (made, changed)] == [400, 400]
