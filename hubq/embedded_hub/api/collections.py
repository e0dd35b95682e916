"""Collections over the API."""

from typing import Any

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.collections import NOT_FOUND, Collections, Item
from hubq.embedded_hub.refusals import Refusal, bad_request
from hubq.embedded_hub.repositories import KINDS, Access
from hubq.embedded_hub.requests import Call, page
from hubq.embedded_hub.routing import Route

PAGE = 100
SHOWN = 4  # items of a collection in a list
LONGEST_DESCRIPTION = 150  # characters
THEMES = ("orange", "blue", "green", "purple", "pink", "indigo")


def listing(call: Call) -> Response:
    """List the collections that the visitor may see, filtered by owner or item."""
    collections = Collections(call.hub.database)
    rows = [row for row in collections.all() if _visible(call, row["namespace"], row["private"])]
    owners = {owner.lower() for owner in call.request.query_params.getlist("owner")}
    found = [
        _readable(call, collections.describe(row["slug"]))
        for row in rows
        if not owners or row["namespace"].lower() in owners
    ]
    for wanted in call.request.query_params.getlist("item"):
        kind, _, item = wanted.partition("s/")
        found = [
            one
            for one in found
            if any((entry["type"], entry["id"]) == (kind, item) for entry in one["items"])
        ]
    return page(call, found, _in_list, size=PAGE)


def _in_list(described: dict[str, Any]) -> dict[str, Any]:
    """Describe a collection by its first items, and without its place: the client numbers them."""
    kept = {key: value for key, value in described.items() if key != "position"}
    return {**kept, "items": described["items"][:SHOWN]}


def create(call: Call) -> Response:
    """Make a collection."""
    namespace, title = call.text("namespace", call.user()), call.text("title").strip()
    call.check_write(namespace, f"the namespace {namespace!r}")
    if not title:
        raise bad_request("A collection needs a title")
    description, private = call.optional_text("description"), bool(call.json().get("private"))
    _check_description(description or "")
    first = [_item(call, call.json()["item"])] if "item" in call.json() else []
    collections = Collections(call.hub.database)
    slug = collections.create(namespace, title, description, private=private, items=first)
    return JSONResponse(collections.describe(slug))


def _check_description(text: str) -> None:
    if len(text) > LONGEST_DESCRIPTION:
        raise bad_request(f"A description has at most {LONGEST_DESCRIPTION} characters")


def get(call: Call) -> Response:
    """Show a collection."""
    return JSONResponse(_readable(call, Collections(call.hub.database).describe(_slug(call))))


def change(call: Call) -> Response:
    """Change a collection's title, description, place, theme or visibility."""
    slug, body = _own_slug(call), call.json()
    kinds = {"title": str, "description": str, "position": int, "private": bool, "theme": str}
    values = {key: body[key] for key in kinds if key in body}
    if wrong := [key for key, value in values.items() if not isinstance(value, kinds[key])]:
        raise bad_request(f"Wrong type: {', '.join(wrong)}")
    _check_description(values.get("description", ""))
    if values.get("theme", "orange") not in THEMES:
        raise bad_request(f"'theme' must be one of {', '.join(THEMES)}")
    collections = Collections(call.hub.database)
    collections.change(slug, values)
    return JSONResponse({"success": True, "data": collections.describe(slug)})


def delete(call: Call) -> Response:
    """Delete a collection."""
    Collections(call.hub.database).remove(_own_slug(call))
    return JSONResponse({"success": True})


def add_item(call: Call) -> Response:
    """Add a repo, or a thing that the hub doesn't know, to a collection."""
    slug = _own_slug(call)
    collections = Collections(call.hub.database)
    collections.add_item(slug, _item(call, call.json().get("item")), call.optional_text("note"))
    return JSONResponse(collections.describe(slug))


def change_item(call: Call) -> Response:
    """Change the note or the place of an item."""
    slug, body = _own_slug(call), call.json()
    values: dict[str, Any] = {}
    if "note" in body:
        values["note"] = call.text("note")
    if body.get("position") is not None:
        values["position"] = call.number("position")
    Collections(call.hub.database).change_item(slug, call.path["item"], values)
    return JSONResponse({"success": True})


def delete_item(call: Call) -> Response:
    """Take an item out of a collection."""
    Collections(call.hub.database).remove_item(_own_slug(call), call.path["item"])
    return JSONResponse({"success": True})


def _item(call: Call, item: Any) -> Item:  # noqa: ANN401 - from JSON
    """Read an item of a body; a repo must be one that the visitor may know of."""
    if not isinstance(item, dict) or not {"id", "type"} <= item.keys():
        raise bad_request("'item' needs an 'id' and a 'type'")
    kind, name = str(item["type"]), str(item["id"])
    for known in KINDS:
        if kind == known:
            name = call.named(known, *_split(name), Access.KNOW).full_name
    return Item(kind, name)


def _split(name: str) -> tuple[str, str]:
    namespace, _, rest = name.partition("/")
    return namespace, rest


def _visible(call: Call, namespace: str, private: object) -> bool:
    return not private or call.visitor.belongs_to(namespace)


def _readable(call: Call, described: dict[str, Any]) -> dict[str, Any]:
    """Leave out the items that the visitor may not know of."""

    def known(item: dict[str, Any]) -> bool:
        for kind in KINDS:
            if item["type"] == kind:
                try:
                    call.named(kind, *_split(item["id"]), Access.KNOW)
                except Refusal:
                    return False
        return True

    return {**described, "items": [item for item in described["items"] if known(item)]}


def _slug(call: Call) -> str:
    slug = f"{call.path['namespace']}/{call.path['slug']}"
    row = Collections(call.hub.database).find(slug)
    if not _visible(call, row["namespace"], row["private"]):
        raise Refusal(404, NOT_FOUND)
    return slug


def _own_slug(call: Call) -> str:
    slug = _slug(call)
    call.check_write(slug.partition("/")[0], f"the collection {slug!r}")
    return slug


ROUTES = (
    Route("GET", "/api/collections", listing, Access.NO_REPO),
    Route("POST", "/api/collections", create, Access.NO_REPO),
    Route("GET", "/api/collections/{namespace}/{slug}", get, Access.NO_REPO),
    Route("PATCH", "/api/collections/{namespace}/{slug}", change, Access.NO_REPO),
    Route("DELETE", "/api/collections/{namespace}/{slug}", delete, Access.NO_REPO),
    Route("POST", "/api/collections/{namespace}/{slug}/items", add_item, Access.NO_REPO),
    Route("PATCH", "/api/collections/{namespace}/{slug}/items/{item}", change_item, Access.NO_REPO),
    Route(
        "DELETE", "/api/collections/{namespace}/{slug}/items/{item}", delete_item, Access.NO_REPO
    ),
)
