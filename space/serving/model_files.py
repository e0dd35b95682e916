"""A model's outline before it is here, and then its checked files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from hubq.client import Client
from serving.messages import Model

if TYPE_CHECKING:
    from hubq.shards import TensorInfo


@dataclass(frozen=True)
class Outline:
    """What is known of a model without its weights."""

    config: Mapping[str, Any]
    tensors: Mapping[str, "TensorInfo"]


@dataclass(frozen=True)
class Fetching:
    """Looks models up and brings them, each once: what was checked is not checked again."""

    client: Client = field(default_factory=Client)
    _outlines: dict[str, Outline] = field(default_factory=dict)
    _folders: dict[str, Path] = field(default_factory=dict)
    _locks: dict[str, Lock] = field(default_factory=dict)

    def outline(self, model: Model) -> Outline:
        """Return config.json and the headers; UserError when there is no such model."""
        with self._lock(model):
            if model.name not in self._outlines:
                self._outlines[model.name] = self._look_up(model)
            return self._outlines[model.name]

    def known_folder(self, model: Model) -> Path | None:
        """Return where the files are; None as long as they aren't here."""
        return model.folder or self._folders.get(model.name)

    def folder(self, model: Model) -> Path:
        """Return the folder of a model's files; download and check them if need be."""
        if model.folder is not None:
            return model.folder
        outline = self.outline(model)
        with self._lock(model):
            if model.name not in self._folders:
                self._folders[model.name] = self._fetch(model, outline)
            return self._folders[model.name]

    def _lock(self, model: Model) -> Lock:
        """Return what keeps two visitors from fetching the same model at once."""
        return self._locks.setdefault(model.name, Lock())

    def _look_up(self, model: Model) -> Outline:
        from hubq.json_object import read_object
        from hubq.shards import index
        from hubq.source_hub import config_on_hub, headers_on_hub

        if model.folder is not None:
            return Outline(read_object(model.folder / "config.json"), index(model.folder))
        assert model.repo is not None, "a model is either a folder or a repo"
        revision = model.revision or "main"
        config = config_on_hub(model.repo, revision, self.client)
        return Outline(config, headers_on_hub(model.repo, revision, self.client))

    def _fetch(self, model: Model, outline: Outline) -> Path:
        """Bring a release with all that its report measured, a base without its other formats."""
        from hubq.pull import pull
        from hubq.recipe_inputs import ModelSection
        from hubq.source import fetch, find

        if outline.config.get("quantization_config"):
            return pull(model.name, None, self.client)
        return fetch(find(ModelSection(hub=model.name), self.client), self.client)
