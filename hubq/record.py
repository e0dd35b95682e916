"""The shape that every stage's result has: a frozen record, saved last and atomically as JSON."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hubq.errors import UserError
from hubq.machine.files import write_atomically


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
                "Use the version that wrote it, or have it made anew: a run with --fresh, another "
                "record once its file is deleted"
            ) from error
