"""Where hubq keeps what it fetched or measured, outside of any project."""

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """Return a folder below HUBQ_CACHE, or below the user's cache folder; make it if need be."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("HUBQ_CACHE") or user / "hubq").joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
