"""Gather what the rules look at: from a folder, a run, a repo on the Hub, or files to be pushed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubq.client.client import Client
from hubq.client.pull import Snapshot, check, download
from hubq.client.repo_files import MOST_LISTED, files_of, head_of, without_bars
from hubq.errors import UserError
from hubq.formats.foreign.metadata import BESIDE
from hubq.machine.files import read_object
from hubq.machine.progress import SILENT
from hubq.records.plan import Plan
from hubq.records.run_folder import ADAPTED, ADAPTER, ADAPTER_CONFIG, MODEL, PAPERS, PLAN
from hubq.records.vocabulary import address
from hubq.sources.base_card import LARGEST
from hubq.sources.hub import LARGEST_TOKENIZER, headers_on_hub
from hubq.sources.license_terms import is_license_file
from hubq.sources.tensor_headers import TensorInfo, read_header
from hubq.sources.weight_files import INDEX, SINGLE
from hubq.stages.lint.file_rules import PROCESSORS
from hubq.stages.lint.release import (
    CARD,
    CONFIG,
    GENERATION,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Release,
)

SMALL = (CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, *PROCESSORS, *BESIDE, CARD, INDEX)
TOOLS = (".git", ".cache")  # folders of programs, which no repo holds
Broken = list[tuple[str, str]]
Tensors = dict[str, TensorInfo]


def folder_release(folder: Path) -> Release:
    """Gather a model's folder, or what a run would publish; UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one, or a repo as org/name")
    if (folder / PLAN).is_file():
        return _run_release(folder)
    return local_release(str(folder), None, _listed(folder))


def _run_release(run: Path) -> Release:
    """Gather a run's model and the papers beside it."""
    adapter = run / MODEL / ADAPTER
    model = adapter if adapter.is_dir() else run / MODEL
    if not model.is_dir():
        raise UserError(f"{run} holds no model yet: run hubq quantize first")
    papers = {name: run / name for name in PAPERS if (run / name).is_file()}
    planned = Plan.load(run / PLAN)
    adapted = planned.adaptation if run.name == ADAPTED else None
    repo = adapted.repo if adapted else planned.repo
    return local_release(str(run), repo, {**_listed(model), **papers})


def _listed(folder: Path) -> dict[str, Path]:
    """List the files of a folder by path, those of programs left out."""
    found: dict[str, Path] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not path.is_dir() and name.parts[0] not in TOOLS:
            found[name.as_posix()] = path
        if len(found) > MOST_LISTED:
            raise UserError(f"{folder} holds more than {MOST_LISTED:,} files, so it is no model")
    return dict(sorted(found.items()))


def local_release(name: str, repo: str | None, files: Mapping[str, Path]) -> Release:
    """Gather files on this machine, by their paths in the repo that they are or will be."""
    broken: Broken = [
        (path, "it is not a regular file") for path, place in files.items() if not place.is_file()
    ]
    sizes = {path: place.stat().st_size for path, place in files.items() if place.is_file()}
    small = {path: files[path] for path, size in sizes.items() if _is_small(path, size, broken)}
    tensors: Tensors = {}
    for path in _weights(sizes, small, broken):
        _add(tensors, files[path], path, broken)
    _require_index(small, tensors, broken)
    return Release(name, repo, sizes, small, _config(small), tensors, tuple(broken))


def repo_release(repo: str, client: Client) -> Release:
    """Gather a repo at the commit that it is at now, without its weights."""
    name, revision = address(repo)
    broken: Broken = []
    with client.translate_errors(f"looking up {repo}"), without_bars():
        commit, _ = head_of(client, name, revision)
        listed = files_of(client, name, commit)
        wanted = {path: file for path, file in listed.items() if _is_small(path, file.size, broken)}
        snapshot = Snapshot(name, commit, None, client)
        places = download(snapshot, wanted, SILENT)
        check(snapshot, wanted, places, SILENT)
    sizes = {path: file.size for path, file in listed.items()}
    tensors: Tensors = {}
    if _weights(sizes, places, broken) and ADAPTER_CONFIG not in sizes:
        try:
            tensors = headers_on_hub(name, commit, client)
        except UserError as error:
            broken.append((SINGLE if SINGLE in sizes else INDEX, str(error)))
    _require_index(places, tensors, broken)
    return Release(f"{name}@{commit}", name, sizes, places, _config(places), tensors, tuple(broken))


def _is_small(path: str, size: int, broken: Broken) -> bool:
    """Tell whether rules read a file; note one that is too large for what it should be."""
    if path not in SMALL and not is_license_file(path) and path != ADAPTER_CONFIG:
        return False
    if size > (LARGEST_TOKENIZER if path in (TOKENIZER, INDEX) else LARGEST):
        broken.append((path, f"it has {size:,} bytes, too many for such a file"))
        return False
    return True


def _config(places: Mapping[str, Path]) -> Mapping[str, Any]:
    """Read config.json; empty where that can't be read, which a rule tells."""
    return _object(places, CONFIG)


def _object(places: Mapping[str, Path], path: str) -> dict[str, Any]:
    try:
        return read_object(places[path]) if path in places else {}
    except UserError:
        return {}


def _index(places: Mapping[str, Path]) -> dict[str, str]:
    """Return the file of each tensor by the index; empty where there is none that can be read."""
    found = _object(places, INDEX).get("weight_map")
    if not isinstance(found, dict):
        return {}
    return {name: file for name, file in found.items() if isinstance(file, str)}


def _weights(sizes: Mapping[str, int], places: Mapping[str, Path], broken: Broken) -> list[str]:
    """List the files of the weights, as transformers finds them."""
    if SINGLE in sizes:
        return [SINGLE]
    named = sorted(set(_index(places).values()))
    lost = [file for file in named if file not in sizes]
    broken += [(INDEX, f"it names {file[:100]}, which isn't there") for file in lost]
    return [file for file in named if file in sizes]


def _add(tensors: Tensors, place: Path, path: str, broken: Broken) -> None:
    """Add the tensors of a file; note a file that is damaged or repeats another's."""
    try:
        found = read_header(place)
    except UserError as error:
        broken.append((path, str(error)))
        return
    broken += [(path, f"{name} is in another file too") for name in found if name in tensors][:1]
    tensors |= found


def _require_index(places: Mapping[str, Path], tensors: Tensors, broken: Broken) -> None:
    """Note tensors that an index lists and no file holds."""
    lost = [name for name in _index(places) if name not in tensors]
    if lost and tensors:
        broken.append((INDEX, f"it lists {lost[0][:100]}, which no file holds"))
