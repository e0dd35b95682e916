"""A model on the Hub: pinned to a commit, looked up by its headers, downloaded and verified."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hubq.answers import Index, Tensor
from hubq.base_card import BaseCard, base_card
from hubq.cache import cache_folder
from hubq.client import Client
from hubq.companions import is_companion
from hubq.errors import UserError
from hubq.hub_names import address
from hubq.json_object import read_object
from hubq.progress import Progress
from hubq.recipe_inputs import ModelSection
from hubq.record import Record
from hubq.remote import commit_of, fetch_record
from hubq.shards import INDEX, TensorInfo
from hubq.source import PICKLES, Source, check_config

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

AT_ONCE = 8  # headers
WHOLE = "model.safetensors"


class Verified(Record):
    """Which files of a commit had the Hub's hashes, and how they lay here then."""

    files: dict[str, tuple[int, int]]  # name -> size and time of last change


def find_on_hub(model: ModelSection, client: Client) -> Source:
    """Read config.json and the safetensors headers of a repo, at the commit it is at now."""
    assert model.hub is not None
    repo, revision = address(model.hub)
    with client.speaking(f"looking up {model.hub}"):
        info = client.patience.keep_trying(lambda: client.api().model_info(repo, revision=revision))
        commit = commit_of(info)
    _refuse_what_has_no_safetensors(repo, info)
    config = config_on_hub(repo, commit, client)
    check_config(config, repo)
    card = _card(info)
    return Source(
        section=model,
        identity=f"{info.id}@{commit}",
        config=config,
        tensors=headers_on_hub(repo, commit, client),
        base_model=model.base_model or info.id,
        license=model.license or card.license,
        card=card,
    )


def card_on_hub(repo: str, client: Client) -> BaseCard | None:
    """Return what a repo says that its copies carry on; None where this Hub can't be asked for it.

    Whether it is asked in vain says nothing about the model: it may live on another Hub.
    """
    try:
        with client.speaking(f"looking up {repo}"):
            info = client.patience.keep_trying(lambda: client.api().model_info(repo))
    except UserError:
        return None
    return _card(info)


def _card(info: "ModelInfo") -> BaseCard:
    return base_card(info.card_data.to_dict() if info.card_data else {}, info.gated)


def _refuse_what_has_no_safetensors(repo: str, info: "ModelInfo") -> None:
    names = [each.rfilename for each in info.siblings or []]
    if "config.json" not in names:
        raise UserError(f"{repo} has no config.json, so it is no model that hubq can quantize")
    if any(name.endswith(".safetensors") for name in names):
        return
    pickled = any(fnmatch(name, pattern) for name in names for pattern in PICKLES)
    only = "only pickled weights, which run code when they are read" if pickled else "no weights"
    raise UserError(f"{repo} has {only}: no safetensors; convert first, or name another model")


def headers_on_hub(repo: str, commit: str, client: Client) -> dict[str, TensorInfo]:
    """Read the headers of the weights by range requests."""
    from huggingface_hub.errors import SafetensorsParsingError

    address(f"{repo}@{commit}")
    with client.speaking(f"reading the headers of {repo}"):
        try:
            files = _weight_files(repo, commit, client)
            with ThreadPoolExecutor(AT_ONCE) as executor:
                read = executor.map(lambda file: _header(repo, file, commit, client), files)
                headers = dict(zip(files, read, strict=True))
        except SafetensorsParsingError as error:
            raise UserError(f"{repo} has damaged safetensors files: {error}") from error
    return {
        name: TensorInfo(file, each.dtype, each.shape, *each.data_offsets)
        for file, header in headers.items()
        for name, each in header.items()
    }


def _weight_files(repo: str, commit: str, client: Client) -> list[str]:
    """List the files of the weights: the one, or those of the index."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    api = client.api()
    if client.patience.keep_trying(lambda: api.file_exists(repo, WHOLE, revision=commit)):
        return [WHOLE]
    try:
        path = fetch_record(client, repo, INDEX, commit)
    except RemoteEntryNotFoundError as error:
        raise UserError(
            f"{repo} has neither {WHOLE} nor its index, so it is no model for hubq"
        ) from error
    try:
        return sorted(set(Index.model_validate_json(path.read_bytes()).weight_map.values()))
    except ValidationError as error:
        raise UserError(
            f"{INDEX} of {repo} is damaged: it should name a file of the repo for each tensor"
        ) from error


def _header(repo: str, file: str, commit: str, client: Client) -> dict[str, Tensor]:
    """Read the header of one file."""
    found = client.patience.keep_trying(
        lambda: client.api().parse_safetensors_file_metadata(repo, file, revision=commit)
    )
    try:
        return {
            name: Tensor.model_validate(vars(each), strict=False)
            for name, each in found.tensors.items()
        }
    except ValidationError as error:
        raise UserError(f"{file} of {repo} is damaged: its header describes no tensors") from error


def download(source: Source, client: Client, progress: Progress) -> Path:
    """Download what hubq needs of the commit; go on where it stopped; verify every hash once."""
    from hubq.pull import Snapshot, check
    from hubq.pull import download as bring
    from hubq.remote import files_of, without_bars

    repo, _, commit = source.identity.partition("@")
    weights = {each.file for each in source.tensors.values()}
    with client.speaking(f"downloading {repo}"), without_bars():
        files = files_of(client, repo, commit)
        wanted = {name: file for name, file in files.items() if _is_wanted(name, weights)}
        snapshot = Snapshot(repo, commit, None, client)
        places = bring(snapshot, wanted, progress)
        record = cache_folder("verified") / f"{commit}.json"
        known = Verified.load(record).files if record.is_file() else None
        if known != _states(places):
            check(snapshot, wanted, places, progress)
            Verified(files=_states(places)).save(record)
    return places["config.json"].parent


def _is_wanted(name: str, weights: set[str]) -> bool:
    return name in weights or name == INDEX or is_companion(name)


def _states(places: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Return size and time of last change of each file."""
    found = {name: path.stat() for name, path in places.items()}
    return {name: (each.st_size, each.st_mtime_ns) for name, each in found.items()}


def config_on_hub(repo: str, commit: str, client: Client) -> dict[str, Any]:
    """Read config.json of a repo."""
    address(f"{repo}@{commit}")
    with client.speaking(f"reading config.json of {repo}"):
        path = fetch_record(client, repo, "config.json", commit)
    return read_object(path)
