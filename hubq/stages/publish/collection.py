"""The organization's collection of what was made from one base, sorted by stored bits.

It is found again by a mark in its description, so people may give it another title. What is
private goes in a private collection only. Where the user names a collection, its title finds it,
and what others put into it stays where it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, NamedTuple

from hubq.client.client import Client
from hubq.client.repo_files import MOST_LISTED, at_most
from hubq.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import Collection, CollectionItem

LONGEST_TITLE, LONGEST_DESCRIPTION = 60, 150  # characters
MODEL: Literal["model"] = "model"
Bits = Mapping[str, float]  # stored bits a weight, by repo


class Wanted(NamedTuple):
    """Which collection."""

    base: str  # org/name
    private: bool
    title: str | None  # None: one of its own


def collect(repo: str, bits: Bits, wanted: Wanted, client: Client) -> str:
    """Put a release of a base into its organization's collection; return the address of that.

    `bits` are those of all releases that may stand there, the new one among them. A collection
    that is missing is made; one that is right stays untouched. Raises UserError where the token
    may not do that, and for a private release that a public collection would show.
    """
    org = repo.partition("/")[0]
    with client.translate_errors(f"adding {repo} to a collection of {org}"):
        found = _find(wanted, org, client) or _make(wanted, org, client)
        if wanted.private and not found.private:
            raise UserError(
                f"the collection {found.title!r} of {org} is public, and {repo} is private.\n"
                "Name another one in publish.collection, or make that one private"
            )
        whole = client.retries.call(partial(client.api().get_collection, found.slug))
        _fill(whole, repo, bits, client)
    return f"{client.url}/collections/{found.slug}"


def _find(wanted: Wanted, org: str, client: Client) -> "Collection | None":
    """Find a collection by its title where one is given, else by the mark of the base."""
    listed = client.retries.call(
        lambda: at_most(MOST_LISTED, client.api().list_collections(owner=org))
    )
    own = [each for each in listed if each.slug.lower().startswith(f"{org.lower()}/")]
    if wanted.title is not None:
        return next((each for each in own if each.title == wanted.title), None)
    ours = (each for each in own if _is_of(wanted, each))
    return min(ours, key=lambda each: each.slug, default=None)


def _is_of(wanted: Wanted, collection: "Collection") -> bool:
    """Tell whether a collection is the one that hubq made for a base."""
    is_marked = _mark(wanted.base) in (collection.description or "")
    return is_marked and collection.private == wanted.private


def _mark(base: str) -> str:
    """Return what tells whose collection it is: the base's name may be longer than there is room.

    Of any title, and where the name was cut, it stays the same.
    """
    return f"[hubq {sha256(base.lower().encode()).hexdigest()[:12]}]"


def _described(base: str) -> str:
    room = LONGEST_DESCRIPTION - len(_mark(base)) - 1
    return f"{f'Quantized from {base} with hubq, fewest bits first.'[:room]} {_mark(base)}"


def _make(wanted: Wanted, org: str, client: Client) -> "Collection":
    """Make a collection under the first title that is free; what hubq made before is not doubled.

    Of a title that is taken the Hub tells whose it is, and so it does after a reply that was lost.
    """
    more = " (private)" if wanted.private else ""
    room = LONGEST_TITLE - len(f" quantized{more}")
    names = (wanted.base.rpartition("/")[2], wanted.base)
    titles = (
        [wanted.title] if wanted.title else [f"{each[:room]} quantized{more}" for each in names]
    )
    for title in titles:
        there = client.retries.call(partial(_made, title, wanted, org, client))
        if wanted.title or _is_of(wanted, there):
            return there
    raise UserError(
        f"{org} has other collections titled {' and '.join(map(repr, titles))}.\n"
        "Name one in publish.collection, or give those another title"
    )


def _made(title: str, wanted: Wanted, org: str, client: Client) -> "Collection":
    said, private = _described(wanted.base), wanted.private
    return client.api().create_collection(
        title, namespace=org, description=said, private=private, exists_ok=True
    )


def _fill(collection: "Collection", repo: str, bits: Bits, client: Client) -> None:
    """Add a release, to an empty collection all of them; move what stands in the wrong place."""
    slug, api = collection.slug, client.api()
    there = {each.item_id for each in collection.items if each.item_type == MODEL}
    missing = sorted(({repo} if there else set(bits)) - there)
    for name in missing:
        client.retries.call(partial(api.add_collection_item, slug, name, MODEL, exists_ok=True))
    if missing:
        collection = client.retries.call(partial(api.get_collection, slug))
    order = list(collection.items)
    for place, item in enumerate(list(_sorted(order, bits))):
        if order[place] is not item:
            move = partial(api.update_collection_item, slug, item.item_object_id, position=place)
            client.retries.call(move)
            order.remove(item)
            order.insert(place, item)


def _sorted(items: "Sequence[CollectionItem]", bits: Bits) -> "Iterator[CollectionItem]":
    """Yield the items with the releases in order; what hubq knows nothing of keeps its place."""
    ours = [each for each in items if each.item_type == MODEL and each.item_id in bits]
    in_order = iter(sorted(ours, key=lambda each: (bits[each.item_id], each.item_id)))
    for each in items:
        yield next(in_order) if each in ours else each
