"""Collections: lists of repos with a title, as people put them together."""

import re
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.refusals import Refusal
from hubq.embedded_hub.storage import Database

Row = sqlite3.Row
NOT_FOUND = "Collection not found"


class Item(NamedTuple):
    """What a collection lists: a repo by its kind and full name, or a thing unknown here."""

    kind: str
    name: str


class Collections:
    """The collections of one hub."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(
        self,
        namespace: str,
        title: str,
        description: str | None,
        *,
        private: bool,
        items: Sequence[Item] = (),
    ) -> str:
        """Make a collection and return its slug; refuse a title that is taken."""
        with self.database.transaction(write=True) as connection:
            taken = connection.execute(
                "SELECT slug FROM collections WHERE namespace = ? AND title = ?",
                (namespace, title),
            ).fetchone()
            if taken is not None:
                message = "This collection already exists"
                raise Refusal(409, message, body={"slug": taken["slug"]})
            slug = f"{namespace}/{_words(title)}-{secrets.token_hex(12)}"
            connection.execute(
                "INSERT INTO collections VALUES (?, ?, ?, ?, ?, 'orange', 0, ?)",
                (slug, namespace, title, description, private, time.time()),
            )
            for position, item in enumerate(items):
                _insert(connection, slug, item, None, position)
        return slug

    def find(self, slug: str) -> Row:
        """Return the row of a collection, or refuse an unknown slug."""
        with self.database.transaction() as connection:
            row: Row | None = connection.execute(
                "SELECT * FROM collections WHERE slug = ?", (slug,)
            ).fetchone()
        if row is None:
            raise Refusal(404, NOT_FOUND)
        return row

    def all(self) -> list[Row]:
        """List the collections, the last changed first."""
        with self.database.transaction() as connection:
            return connection.execute("SELECT * FROM collections ORDER BY updated DESC").fetchall()

    def items(self, slug: str) -> list[Row]:
        """List the items of a collection in their order."""
        with self.database.transaction() as connection:
            return connection.execute(
                "SELECT * FROM items WHERE slug = ? ORDER BY position, rowid", (slug,)
            ).fetchall()

    def change(self, slug: str, values: dict[str, Any]) -> None:
        """Set columns of a collection."""
        self._update("collections", {**values, "updated": time.time()}, ("slug", slug))

    def remove(self, slug: str) -> None:
        """Delete a collection."""
        with self.database.transaction(write=True) as connection:
            connection.execute("DELETE FROM collections WHERE slug = ?", (slug,))

    def add_item(self, slug: str, item: Item, note: str | None) -> None:
        """Append an item, or refuse one that is in the collection already."""
        position = max((row["position"] for row in self.items(slug)), default=-1) + 1
        try:
            with self.database.transaction(write=True) as connection:
                _insert(connection, slug, item, note, position)
        except sqlite3.IntegrityError as error:
            message = "This item is already in the collection"
            raise Refusal(409, message, body={"slug": slug}) from error

    def change_item(self, slug: str, item_id: str, values: dict[str, Any]) -> None:
        """Set the note of an item, or move it to another place in the list."""
        ids = [row["id"] for row in self.items(slug)]
        if item_id not in ids:
            raise Refusal(404, "Item not found")
        if "note" in values:
            self._update("items", {"note": values["note"]}, ("id", item_id))
        if "position" in values:
            ids.remove(item_id)
            ids.insert(values["position"], item_id)
            for position, other in enumerate(ids):
                self._update("items", {"position": position}, ("id", other))

    def remove_item(self, slug: str, item_id: str) -> None:
        """Take an item out, or refuse an unknown one."""
        with self.database.transaction(write=True) as connection:
            done = connection.execute(
                "DELETE FROM items WHERE slug = ? AND id = ?", (slug, item_id)
            )
            if done.rowcount == 0:
                raise Refusal(404, "Item not found")

    def describe(self, slug: str) -> dict[str, Any]:
        """Describe a collection and its items as the API does."""
        row = self.find(slug)
        return {
            "slug": slug,
            "title": row["title"],
            "description": row["description"],
            "owner": {"name": row["namespace"], "type": "user"},
            "items": [_item(item) for item in self.items(slug)],
            "lastUpdated": timestamp(row["updated"]),
            "position": row["position"],
            "private": bool(row["private"]),
            "theme": row["theme"],
            "upvotes": 0,
        }

    def _update(self, table: str, values: dict[str, Any], key: tuple[str, str]) -> None:
        assignments = ", ".join(f"{column} = ?" for column in values)
        with self.database.transaction(write=True) as connection:
            connection.execute(
                f"UPDATE {table} SET {assignments} WHERE {key[0]} = ?", (*values.values(), key[1])
            )


def _insert(
    connection: sqlite3.Connection, slug: str, item: Item, note: str | None, position: int
) -> None:
    connection.execute(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)",
        (secrets.token_hex(12), slug, item.kind, item.name, note, position),
    )


def _item(row: Row) -> dict[str, Any]:
    note = {"text": row["note"], "html": ""} if row["note"] else None
    return {
        "_id": row["id"],
        "id": row["item"],
        "type": row["type"],
        "position": row["position"],
        "note": note,
    }


def _words(title: str) -> str:
    """Make the readable part of a slug."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))[:60] or "collection"
