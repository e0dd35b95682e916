"""The form of what may be asked of the page's functions, by the components that they read.

A browser sends what its components hold. Whoever writes requests by hand can send anything, which
Gradio would find out by exceptions of its own, each with a traceback in the log.
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import gradio as gr

MOST_CHOSEN = 64  # in a list of models


Chooser = TypeVar("Chooser", bound=gr.Dropdown | gr.Radio)


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
            return "it is no JSON that a browser would send"
        if not isinstance(values, dict) or not isinstance(values.get("data"), list):
            return "it has no list of data"
        if not isinstance(values.get("session_hash", ""), str | None):
            return "its session is no text"
        number = values.get("fn_index")
        if number is not None and type(number) is not int:
            return "its function is no number"
        function = self._by_number.get(number) if name is None else self._by_name.get(name)
        if function is None or number not in (None, function._id):
            return "there is no such function"
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
            return isinstance(value, str)
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
