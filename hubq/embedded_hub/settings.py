"""The secrets and the variables of Spaces. A secret's value goes in and never comes out.

Nothing runs here, so nothing ever needs the value of a secret: it is not stored at all.
"""

from collections.abc import Mapping
from typing import Any

from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.refusals import bad_request
from hubq.embedded_hub.repositories import insert_setting
from hubq.embedded_hub.storage import Database


def check(setting: object) -> None:
    """Refuse what is no setting: it has a key that a shell would take, and a value."""
    if isinstance(setting, Mapping):
        key, value = setting.get("key"), setting.get("value")
        described = isinstance(setting.get("description"), str | None)
        if isinstance(key, str) and key.isidentifier() and isinstance(value, str) and described:
            return
    raise bad_request(
        "A setting needs a 'key' that is an identifier and a string 'value'; "
        "a 'description' is a string too"
    )


def put(database: Database, repo_id: str, table: str, setting: Mapping[str, Any]) -> None:
    """Set one secret or variable."""
    check(setting)
    with database.transaction(write=True) as connection:
        insert_setting(connection, repo_id, table, setting)


def drop(database: Database, repo_id: str, table: str, key: str) -> None:
    """Remove one secret or variable; it's fine when there is none."""
    with database.transaction(write=True) as connection:
        connection.execute(
            "DELETE FROM settings WHERE repo = ? AND kind = ? AND key = ?", (repo_id, table, key)
        )


def show(database: Database, repo_id: str, table: str) -> dict[str, Any]:
    """Describe the secrets or the variables of a Space by their keys."""
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT * FROM settings WHERE repo = ? AND kind = ? ORDER BY key", (repo_id, table)
        ).fetchall()
    shown = {}
    for row in rows:
        answer = {
            "key": row["key"],
            "description": row["description"],
            "updatedAt": timestamp(row["updated"]),
        }
        shown[row["key"]] = answer if table == "secrets" else {**answer, "value": row["value"]}
    return shown
