"""What only Spaces have: a runtime, secrets, variables. Nothing is ever run.

So nothing ever needs the value of a secret: it goes in, never comes out, and is not stored at all.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.description import runtime as describe_runtime
from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.refusals import Refusal, bad_request
from hubq.embedded_hub.repositories import Access, Repository, insert_setting
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route
from hubq.embedded_hub.storage import Database


def check_setting(setting: object) -> None:
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


def runtime(call: Call) -> Response:
    """Describe what the Space would run on."""
    return JSONResponse(describe_runtime(_space(call)))


def hardware(call: Call) -> Response:
    """Ask for other hardware."""
    repo = _space(call)
    given = call.json().get("sleepTimeSeconds") is not None
    seconds = call.number("sleepTimeSeconds") if given else repo.sleep
    return _change(call, repo, hardware=call.text("flavor"), sleep=seconds)


def sleep_time(call: Call) -> Response:
    """Set after how many idle seconds the Space would sleep."""
    return _change(call, _space(call), sleep=call.number("seconds"))


def pause(call: Call) -> Response:
    """Mark the Space as paused."""
    return _change(call, _space(call), stage="PAUSED")


def restart(call: Call) -> Response:
    """Take the mark off again."""
    return _change(call, _space(call), stage="STOPPED")


def settings(call: Call) -> Response:
    """List the secrets, without values, or the variables of a Space; set or remove one."""
    repo = _space(call)
    table = call.request.url.path.rpartition("/")[2]
    if call.request.method == "POST":
        _put_setting(call.hub.database, repo.id, table, call.json())
    elif call.request.method == "DELETE":
        _drop_setting(call.hub.database, repo.id, table, call.text("key"))
    return JSONResponse(_show_settings(call.hub.database, repo.id, table))


def _space(call: Call) -> Repository:
    """Return the repo of the path, or refuse one that is no Space."""
    if call.kind != "space":
        raise Refusal(404, "Only Spaces have this")
    return call.repo()


def _change(call: Call, repo: Repository, **values: str | int | None) -> Response:
    call.hub.repositories.change(repo, **values)
    return runtime(call)


def _put_setting(database: Database, repo_id: str, table: str, setting: Mapping[str, Any]) -> None:
    """Set one secret or variable."""
    check_setting(setting)
    with database.transaction(write=True) as connection:
        insert_setting(connection, repo_id, table, setting)


def _drop_setting(database: Database, repo_id: str, table: str, key: str) -> None:
    """Remove one secret or variable; it's fine when there is none."""
    with database.transaction(write=True) as connection:
        connection.execute(
            "DELETE FROM settings WHERE repo = ? AND kind = ? AND key = ?", (repo_id, table, key)
        )


def _show_settings(database: Database, repo_id: str, table: str) -> dict[str, Any]:
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


ROUTES = (
    Route("GET", "/api/{kind}/{namespace}/{name}/runtime", runtime, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/hardware", hardware, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/sleeptime", sleep_time, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/pause", pause, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/restart", restart, Access.WRITE),
    Route("GET|POST|DELETE", "/api/{kind}/{namespace}/{name}/secrets", settings, Access.WRITE),
    Route("GET|POST|DELETE", "/api/{kind}/{namespace}/{name}/variables", settings, Access.WRITE),
)
