"""What only Spaces have: a runtime, secrets, variables. Nothing is ever run."""

from starlette.responses import JSONResponse, Response

from hubq.embedded_hub.description import runtime as describe_runtime
from hubq.embedded_hub.refusals import Refusal
from hubq.embedded_hub.repositories import Access, Repository
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route
from hubq.embedded_hub.settings import drop, put, show


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
        put(call.hub.database, repo.id, table, call.json())
    elif call.request.method == "DELETE":
        drop(call.hub.database, repo.id, table, call.text("key"))
    return JSONResponse(show(call.hub.database, repo.id, table))


def _space(call: Call) -> Repository:
    """Return the repo of the path, or refuse one that is no Space."""
    if call.kind != "space":
        raise Refusal(404, "Only Spaces have that")
    return call.repo()


def _change(call: Call, repo: Repository, **values: str | int | None) -> Response:
    call.hub.repositories.change(repo, **values)
    return runtime(call)


ROUTES = (
    Route("GET", "/api/{kind}/{namespace}/{name}/runtime", runtime, Access.KNOW),
    Route("POST", "/api/{kind}/{namespace}/{name}/hardware", hardware, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/sleeptime", sleep_time, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/pause", pause, Access.WRITE),
    Route("POST", "/api/{kind}/{namespace}/{name}/restart", restart, Access.WRITE),
    Route("GET|POST|DELETE", "/api/{kind}/{namespace}/{name}/secrets", settings, Access.WRITE),
    Route("GET|POST|DELETE", "/api/{kind}/{namespace}/{name}/variables", settings, Access.WRITE),
)
