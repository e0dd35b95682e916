"""Find a model by what a recipe says of it, and bring it here: one way for each kind of source."""

from pathlib import Path

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.folder import read_folder, require_one_head
from hubq.sources.gguf.convert import convert, converted, look_up
from hubq.sources.gguf.files import digest
from hubq.sources.hub import download, find_on_hub
from hubq.sources.language_part import Part
from hubq.sources.normalized_folder import renamed, unpickled
from hubq.sources.processor import PROCESSOR_FILES
from hubq.sources.pypi_wheel import file_in_wheel
from hubq.sources.source import Source, language_alone
from hubq.sources.weight_files import weight_files


def find(model: ModelSection, client: Client, part: Part = "all") -> Source:
    """Look a model up without its weights; raise UserError when it isn't there or is gated.

    Of a model that sees its language part can be had alone.
    """
    found = _find(model, client)
    return language_alone(found) if part == "language" else found


def _find(model: ModelSection, client: Client) -> Source:
    if model.hub is not None:
        return find_on_hub(model, client)
    if model.folder is not None:
        return read_folder(model, model.folder)
    path = gguf_file(model)
    sha256 = digest(path)
    if (folder := converted(sha256)).is_dir():
        return read_folder(model, folder, f"sha256:{sha256}")
    return look_up(model, path, f"sha256:{sha256}")


def fetch(source: Source, client: Client, progress: Progress = SILENT) -> Path:
    """Bring the whole model to this machine (once) and return its folder of safetensors."""
    model = source.section
    if model.hub is not None:
        folder = download(source, client, progress)
    elif model.folder is not None:
        folder = model.folder
    else:
        return convert(gguf_file(model), source, progress)
    if source.pickled:
        folder = unpickled(folder, weight_files(folder).names, progress)
    require_one_head(folder, source)
    if not source.stored:
        return folder
    without = PROCESSOR_FILES if source.is_part else ()
    return renamed(folder, source.stored, source.config_json, without)


def fetch_planned(
    model: ModelSection,
    identity: str,
    client: Client,
    progress: Progress = SILENT,
    part: Part = "all",
) -> Path:
    """Bring a model exactly as it was when it was planned; raise UserError if it changed since."""
    if model.hub is not None:
        model = model.model_copy(update={"hub": identity})  # a branch may have moved since
    source = find(model, client, part)
    if source.identity != identity:
        raise UserError(
            f"the model's weights changed since they were planned ({identity} became "
            f"{source.identity}).\nPlan again with --fresh, or restore the old weights."
        )
    return fetch(source, client, progress)


def gguf_file(model: ModelSection) -> Path:
    """Return the GGUF file on this machine."""
    if model.wheel is not None:
        return file_in_wheel(model.wheel)
    assert model.gguf is not None, "a model section has exactly one source"
    if not model.gguf.is_file():
        raise UserError(f"there is no file {model.gguf}; correct model in the recipe")
    return model.gguf
