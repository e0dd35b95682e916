"""Lists in pages, with the address of the next one in the Link header."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.responses import JSONResponse

from hubq.hub.call import Call
from hubq.hub.refusals import bad_request

T = TypeVar("T")


def page(call: Call, items: Sequence[T], render: Callable[[T], Any], *, size: int) -> JSONResponse:
    """Render the page of a list that the query's cursor asks for."""
    start = whole_number(call, "cursor", 0)
    end = start + min(size, max(1, whole_number(call, "limit", size)))
    headers = {}
    if end < len(items):
        following = call.request.url.include_query_params(cursor=end)
        path = call.request.scope["raw_path"].decode("latin-1")
        headers["Link"] = f'<{call.base}{path}?{following.query}>; rel="next"'
    return JSONResponse([render(item) for item in items[start:end]], headers=headers)


def whole_number(call: Call, name: str, default: int) -> int:
    """Return a number of the query, or refuse what is none."""
    value = call.query.get(name, str(default))
    if not value.isdecimal() or len(value) > 12:
        raise bad_request(f"{name!r} must be a number")
    return int(value)
