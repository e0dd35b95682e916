"""The shape that every record has: frozen, strict in what it reads, saved in one step as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from hubq.errors import UserError
from hubq.machine.files import write_atomically

GREATEST = 2**53  # of whole numbers: up to here every reader of JSON has them exactly


class Record(BaseModel):
    """A frozen value with a JSON file; that the file exists means that its stage is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self, path: Path) -> None:
        """Write the record so that a reader sees all of it or nothing."""
        write_atomically(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the record back; raise UserError when the file is of another version or damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:3])
            raise UserError(
                f"{path} does not hold a {cls.__name__} of this version of hubq ({where}).\n"
                "Use the version that wrote it, or create it again: for a run with --fresh, for "
                "another record by deleting its file"
            ) from error


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
        return "must be a number; true, false, yes, no, on and off are not numbers"
    if isinstance(value, int | float) and bool in kinds:
        return f"must be true or false; you wrote {value}"
    if isinstance(value, float) and float not in kinds:
        return f"must be a whole number; you wrote {value}"
    return None
