"""Lists in pages, with the address of the next one in the Link header."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.responses import JSONResponse

from hubq.embedded_hub.call import Call
from hubq.embedded_hub.refusals import bad_request

T = TypeVar("T")


def page(
    call: Call, items: Sequence[T], render: Callable[[T], Any | None], *, size: int
) -> JSONResponse:
    """Render the page of a list that the query's cursor asks for, and no more than that.

    What `render` has nothing to say about is left out, and the page goes on behind it.
    """
    position, limit = _begin(call, size)
    rendered: list[Any] = []
    while position < len(items) and len(rendered) < limit:
        answer = render(items[position])
        rendered += [] if answer is None else [answer]
        position += 1
    headers = {}
    if position < len(items):
        following = call.request.url.include_query_params(cursor=position)
        path = call.request.scope["raw_path"].decode("latin-1")
        headers["Link"] = f'<{call.base}{path}?{following.query}>; rel="next"'
    return JSONResponse(rendered, headers=headers)


def window(call: Call, items: Sequence[T], *, size: int) -> Sequence[T]:
    """Return the items of the page, for what is cheaper to find out about all of them at once."""
    start, limit = _begin(call, size)
    return items[start : start + limit]


def _begin(call: Call, size: int) -> tuple[int, int]:
    return whole_number(call, "cursor", 0), min(size, max(1, whole_number(call, "limit", size)))


def whole_number(call: Call, name: str, default: int) -> int:
    """Return a number of the query, or refuse what is none."""
    value = call.query.get(name, str(default))
    if not value.isdecimal() or len(value) > 12:
        raise bad_request(f"{name!r} must be a number")
    return int(value)
