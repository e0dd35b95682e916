"""A JSON object in a file that others made."""

import json
from pathlib import Path
from typing import Any

from hubq.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise UserError for anything else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; a model folder needs one") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON ({error}); correct it, or fetch the model again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; correct it, or fetch the model again")
    return value
