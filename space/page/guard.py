"""What strangers may ask the Space at all: no files, no long texts, no names that aren't its own.

Gradio takes uploads of any size by routes that this page has no use for (a picture comes along with
the click that asks about it), and answers whatever the
Host header says, by which another page in a visitor's browser could talk to it (DNS rebinding).
A browser sends what its components hold. Whoever writes requests by hand can send anything, which
Gradio would find out by exceptions of its own, each with a traceback in the log: `Form` knows what
each function of the page reads.
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import gradio as gr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubq.client.credentials import LOOPBACK
from page.picture_upload import MOST_CHARACTERS, is_picture

MOST_CHOSEN = 64  # in a list of models


Chooser = TypeVar("Chooser", bound=gr.Dropdown | gr.Radio)
MOST_BYTES = 1 << 20  # of one request: prompts of some hundred thousand characters
MOST_WITH_PICTURE = MOST_BYTES + MOST_CHARACTERS
# What Gradio's own pages and clients post to; all its other routes that take anything are closed.
JOIN = "/queue/join"
NUMBERED = (JOIN, "/run/predict")  # where browsers name a function by its number
TOLD = ("/cancel", "/reset")
CALLED = ("/run/", "/api/", "/call/")  # before the name of one of the page's functions
PREFIX = "/gradio_api"
KEPT = ("/gradio_api/deep_link",)  # which would write a visitor's state to the disk


def as_it_is(payload: Any) -> Any:  # noqa: ANN401 - a name, several, a number, or None
    """Hand a component's value on."""
    return payload


def unchecked(component: Chooser) -> Chooser:
    """Let a component hold what is no choice any more: what reads it says so in words."""
    component.preprocess = as_it_is  # type: ignore[method-assign]
    return component


class Form:
    """What each function of a page reads."""

    def __init__(self, page: gr.Blocks) -> None:
        there: Mapping[Any, Any] = {
            number: each for number, each in page.fns.items() if each.fn is not None
        }
        self._by_number = there
        self._by_name = {str(each.api_name): each for each in there.values()}

    def problem(self, name: str | None, body: bytes) -> str | None:
        """Say what is wrong with a request, of a function by its name or by its number; or None."""
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            return "it is not JSON that a browser would send"
        if not isinstance(values, dict) or not isinstance(values.get("data"), list):
            return "it has no list of data"
        if not isinstance(values.get("session_hash", ""), str | None):
            return "its session is not a string"
        number = values.get("fn_index")
        if number is not None and type(number) is not int:
            return "its function is not a number"
        function = self._by_number.get(number) if name is None else self._by_name.get(name)
        if function is None or number not in (None, function._id):
            return "there is no such function"
        if len(body) > MOST_BYTES and not any(map(is_picture, function.inputs)):
            return f"it may have at most {MOST_BYTES:,} bytes"
        if _reads_an_event(function.fn) and not _is_selection(values.get("event_data")):
            return "it doesn't say what was selected"
        return _mistake(function.inputs, values["data"])


def _reads_an_event(function: Callable[..., Any]) -> bool:
    """Tell whether a function is told what was selected, beside the components' values."""
    given = inspect.signature(function).parameters.values()
    return any(each.annotation is gr.SelectData for each in given)


def _is_selection(event: object) -> bool:
    """Tell whether this is what a browser says of a selection."""
    if not isinstance(event, dict) or not {"index", "value"} <= event.keys():
        return False
    row = event.get("row_value")
    return row is None or (isinstance(row, list) and bool(row))


def _mistake(inputs: Sequence[Any], data: Sequence[Any]) -> str | None:
    """Say which value a component can't hold."""
    if len(inputs) != len(data):
        return f"it has {len(data)} values and needs {len(inputs)}"
    for place, (component, value) in enumerate(zip(inputs, data, strict=True)):
        if not _holds(component, value):
            return f"value {place} can't be held by a {type(component).__name__}"
    return None


def _holds(component: Any, value: Any) -> bool:  # noqa: ANN401 - of Gradio, of a stranger
    """Tell whether a browser's component could have sent this value."""
    if value is None:
        return not isinstance(component, gr.Dataset)
    match component:
        case gr.State():
            return False  # it lies here, and nobody sends it
        case gr.Dropdown(multiselect=True):
            return isinstance(value, list) and _are_names(value)
        case gr.Dropdown():
            return isinstance(value, str)
        case gr.Radio():
            return _is_choice(component, value)
        case gr.Checkbox():
            return isinstance(value, bool)
        case gr.Slider() | gr.Number():
            return _is_number(value)
        case gr.Dataset():
            return type(value) is int and 0 <= value < len(component.samples)
        case gr.Textbox():
            most = MOST_CHARACTERS if is_picture(component) else MOST_BYTES
            return isinstance(value, str) and len(value) <= most
    # An argument of an endpoint for programs, which looks at it itself; Gradio, too, at objects.
    return _are_names(value) if isinstance(value, list) else isinstance(value, str | int | float)


def _is_choice(component: gr.Radio, value: object) -> bool:
    if component.preprocess is as_it_is:
        return isinstance(value, str) or type(value) is int
    return any(type(value) is type(each) and value == each for _, each in component.choices)


def _are_names(values: Sequence[Any]) -> bool:
    return len(values) <= MOST_CHOSEN and all(isinstance(each, str) for each in values)


def _is_number(value: object) -> bool:
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def own_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that a Space goes by; none are known where others than its machine may ask.

    One on a Hub is reached through the Hub's proxy, and elsewhere the user let others in.
    """
    listens = environment.get("GRADIO_SERVER_NAME", LOOPBACK[0])
    return LOOPBACK if listens in LOOPBACK and "SPACE_ID" not in environment else ()


class Refused(Exception):  # noqa: N818 - reads as what happened
    """A request that isn't answered, with the status that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """An ASGI application in front of a page's; `hosts` are those that it goes by, none: any."""

    def __init__(self, app: ASGIApp, form: Form, hosts: Sequence[str] = ()) -> None:
        self.app = app
        self.form = form
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._require_host(scope)
            route = _require_route(scope)
            if scope["method"] == "POST":
                _require_length(_header(scope, b"content-length"))
                body = await _body(receive)
                self._require_form(route, body)
                receive = _again(body, receive)
            await self.app(scope, receive, send)
        except Refused as refused:
            await _answer(send, refused)

    def _require_host(self, scope: Scope) -> None:
        """Refuse a name that isn't one of the machine's own, where only this machine may ask."""
        given = _header(scope, b"host")
        try:
            name = urlsplit(f"//{given}").hostname
        except ValueError:
            name = None
        if self.hosts and name not in self.hosts:
            raise Refused(421, f"this Space does not answer to the name {given!r}")

    def _require_form(self, route: str, body: bytes) -> None:
        """Refuse what no component of the page could have sent."""
        if route in TOLD:
            return
        name = None if route in NUMBERED else route.rpartition("/")[2]
        if problem := self.form.problem(name, body):
            raise Refused(422, f"this request is not valid: {problem}")


def _require_route(scope: Scope) -> str:
    """Return the route behind Gradio's prefix; refuse what would leave something here."""
    path: str = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
    if path.startswith(KEPT):
        raise Refused(404, "nothing is stored here")
    route = path.removeprefix(PREFIX)
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return route
    known = route in (JOIN, *TOLD) or (route.count("/") == 2 and route.startswith(CALLED))
    if scope["method"] != "POST" or not known:
        raise Refused(404, "this Space takes no files, only prompts")
    return route


def _require_length(given: str) -> None:
    if given and (
        not given.isascii() or not given.isdigit() or int(given[:20]) > MOST_WITH_PICTURE
    ):
        raise Refused(413, f"a request may have at most {MOST_WITH_PICTURE:,} bytes here")


async def _body(receive: Receive) -> bytes:
    """Read a request, whatever length was announced."""
    body, goes_on = b"", True
    while goes_on:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request was interrupted")
        body += message.get("body", b"")
        goes_on = message.get("more_body", False)
        if len(body) > MOST_WITH_PICTURE:
            raise Refused(413, f"a request may have at most {MOST_WITH_PICTURE:,} bytes here")
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
