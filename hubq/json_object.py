"""A JSON object in a file that others made."""

import json
from pathlib import Path
from typing import Any

from hubq.errors import UserError

MAX_BYTES = 100_000_000  # a description longer than that describes no model


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise UserError for anything else."""
    if not path.is_file():  # a pipe would be read for ever
        raise UserError(f"{path} is missing; a model folder needs one")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes; fetch the model again")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON ({error}); correct it, or fetch the model again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; correct it, or fetch the model again")
    return value
