"""Numbers and switches of a recipe mean what is written: yes is no 1, and "4" no 4."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

GREATEST = 2**53  # of whole numbers: up to here every reader of JSON has them exactly


class AsWritten(BaseModel):
    """Options whose numbers and switches are not made of anything else; no number is infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
        mistake = _mistake(value, kinds)
        if mistake is not None:
            raise ValueError(mistake)
        return value


def _kinds(annotation: Any) -> Iterator[type]:  # noqa: ANN401 - a field's annotation
    """Yield the types of the plain values that a field takes."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif isinstance(annotation, type):
        yield annotation
    else:
        for each in get_args(annotation):
            yield from _kinds(each)


def _mistake(value: object, kinds: set[type]) -> str | None:
    """Say why a value is not of a field's kinds although pydantic would make it so, or None."""
    if isinstance(value, int) and abs(value) > GREATEST:
        return f"must be at most {GREATEST:,}; you wrote {value}"
    if not kinds & {int, float, bool} or type(value) in kinds:
        return None
    if isinstance(value, str) and str not in kinds:
        wanted = "true or false" if bool in kinds else "a number"
        return f'must be {wanted}, without quotes; you wrote "{value}"'
    if isinstance(value, bool):
        return "must be a number; true, false, yes, no, on and off are none"
    if isinstance(value, int | float) and bool in kinds:
        return f"must be true or false; you wrote {value}"
    if isinstance(value, float) and float not in kinds:
        return f"must be a whole number; you wrote {value}"
    return None
