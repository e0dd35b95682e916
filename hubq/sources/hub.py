"""A model on the Hub: pinned to a commit, looked up by its headers, downloaded and verified."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from fnmatch import fnmatch
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hubq.client.answers import Index
from hubq.client.client import Client
from hubq.client.pull import Snapshot, check
from hubq.client.pull import download as bring
from hubq.client.repo_files import commit_of, fetch_record, files_of, without_bars
from hubq.errors import UserError
from hubq.machine.files import alone_with, cache_folder, read_object
from hubq.machine.progress import SILENT, Progress
from hubq.records.plan import BaseCard
from hubq.records.recipe_inputs import ModelSection
from hubq.records.record import Record
from hubq.records.vocabulary import address
from hubq.sources.auxiliary_files import is_auxiliary, is_tokenizer
from hubq.sources.base_card import UnreadableCardError, base_card, front_matter, known_card
from hubq.sources.folder import read_folder
from hubq.sources.source import Source, accounted, check_config, left_alone
from hubq.sources.tensor_headers import FIELDS, TensorInfo, tensor_infos
from hubq.sources.weight_files import INDEX, PICKLE, PICKLE_INDEX, SINGLE, is_weights

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

AT_ONCE = 8  # headers
# What huggingface_hub raises for a header that is JSON but of other types.
MISREAD = (JSONDecodeError, UnicodeDecodeError, TypeError, LookupError, AttributeError)
LARGEST_TOKENIZER = 64_000_000  # bytes of a file: the greatest vocabularies take half of that


class Verified(Record):
    """Which files of a commit had the Hub's hashes, and how they lay here then."""

    files: dict[str, tuple[int, int]]  # name -> size and time of last change


def find_on_hub(model: ModelSection, client: Client) -> Source:
    """Read config.json and the safetensors headers of a repo, at the commit it is at now."""
    assert model.hub is not None
    repo, revision = address(model.hub)
    with client.translate_errors(f"looking up {model.hub}"):
        info = client.retries.call(lambda: client.api().model_info(repo, revision=revision))
        commit = commit_of(info)
    names = [each.rfilename for each in info.siblings or []]
    pickled = _is_pickled(repo, names)
    identity = f"{info.id}@{commit}"
    card = _card(info, client, model.license)
    config = config_on_hub(repo, commit, client)
    check_config(config, repo)
    if pickled:  # no header says what is in these: they are brought at once
        folder = _bring(identity, _is_pickle, client, SILENT)
        return replace(
            read_folder(model, folder, identity),
            base_model=model.base_model or info.id,
            license=model.license or card.license,
            card=card,
        )
    tensors = headers_on_hub(repo, commit, client)
    read = {INDEX, *(each.file for each in tensors.values())}
    source = Source(
        section=model,
        identity=identity,
        config=config,
        tensors=tensors,
        base_model=model.base_model or info.id,
        license=model.license or card.license,
        card=card,
        remarks=left_alone([name for name in names if is_weights(name) and name not in read]),
    )
    return accounted(source)


def card_on_hub(repo: str, client: Client, license: str | None = None) -> BaseCard | None:
    """Return what a repo says that its copies carry on; None where this Hub can't be asked for it.

    Whether it is asked in vain says nothing about the model: it may live on another Hub. A card
    that is there and can't be read is an error, unless the license is known otherwise.
    """
    try:
        with client.translate_errors(f"looking up {repo}"):
            info = client.retries.call(lambda: client.api().model_info(repo))
        return _card(info, client, license)
    except UnreadableCardError:
        raise
    except UserError:
        return None


def _card(info: "ModelInfo", client: Client, license: str | None) -> BaseCard:
    """Pick from a repo's card as the Hub read it, or as it is where the Hub could read nothing."""
    told = info.card_data.to_dict() if info.card_data else {}
    names = {each.rfilename for each in info.siblings or []}
    if told or "README.md" not in names:
        return base_card(told, info.gated)
    with client.translate_errors(f"reading the card of {info.id}"):
        path = fetch_record(client, info.id, "README.md", commit_of(info))
    where = f"the card of {info.id}"
    return known_card(lambda: front_matter(path.read_bytes(), where)[0], license, info.gated)


def _is_pickled(repo: str, names: list[str]) -> bool:
    """Tell whether a repo has pickles alone; refuse one that is no model for transformers."""
    if "config.json" not in names:
        raise UserError(f"{repo} has no config.json, so it is not a model that hubq can quantize")
    if SINGLE in names or INDEX in names:
        return False
    if PICKLE not in names and PICKLE_INDEX not in names:
        raise UserError(
            f"{repo} has neither {SINGLE}, nor its index, nor {PICKLE}, so it is not a model that "
            "hubq can read; name another repo, or a folder of the model as transformers saves it"
        )
    return True


def _is_pickle(name: str) -> bool:
    return name == PICKLE_INDEX or fnmatch(name, "pytorch_model*.bin")


def headers_on_hub(repo: str, commit: str, client: Client) -> dict[str, TensorInfo]:
    """Read the headers of the weights by range requests."""
    from huggingface_hub.errors import SafetensorsParsingError

    address(f"{repo}@{commit}")
    with client.translate_errors(f"reading the headers of {repo}"):
        try:
            files = _weight_files(repo, commit, client)
            with ThreadPoolExecutor(AT_ONCE) as executor:
                read = executor.map(lambda file: _header(repo, file, commit, client), files)
                headers = list(read)
        except (SafetensorsParsingError, *MISREAD) as error:
            raise UserError(f"{repo} has damaged safetensors files: {error}") from error
    tensors: dict[str, TensorInfo] = {}
    for infos in headers:
        if twice := sorted(infos.keys() & tensors.keys()):
            raise UserError(f"{repo} is damaged: two of its files hold {twice[0]}")
        tensors |= infos
    return tensors


def _weight_files(repo: str, commit: str, client: Client) -> list[str]:
    """List the files of the weights: the one, or those of the index."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    api = client.api()
    if client.retries.call(lambda: api.file_exists(repo, SINGLE, revision=commit)):
        return [SINGLE]
    try:
        path = fetch_record(client, repo, INDEX, commit)
    except RemoteEntryNotFoundError as error:
        raise UserError(
            f"{repo} has neither {SINGLE} nor its index, so it is not a model that hubq can read"
        ) from error
    try:
        return sorted(set(Index.model_validate_json(path.read_bytes()).weight_map.values()))
    except ValidationError as error:
        raise UserError(
            f"{INDEX} of {repo} is damaged: it should name a file of the repo for each tensor"
        ) from error


def _header(repo: str, file: str, commit: str, client: Client) -> dict[str, TensorInfo]:
    """Read the header of one file; refuse one that no file can have."""
    found = client.retries.call(
        lambda: client.api().parse_safetensors_file_metadata(repo, file, revision=commit)
    )
    entries = {name: asdict(each) for name, each in found.tensors.items()}
    plain = {name: {key: each[key] for key in FIELDS} for name, each in entries.items()}
    try:
        return tensor_infos(plain, file)
    except ValueError as error:
        raise UserError(f"{file} of {repo} is damaged: {error}") from error


def download(source: Source, client: Client, progress: Progress) -> Path:
    """Download what hubq needs of the commit; go on where it stopped; verify every hash once."""
    stays = source.whole.stays if source.whole else {}
    weights = {each.file for each in (*source.tensors.values(), *stays.values())} | {INDEX}
    chosen = _is_pickle if source.pickled else weights.__contains__
    return _bring(source.identity, chosen, client, progress)


def _bring(
    identity: str, chosen: Callable[[str], bool], client: Client, progress: Progress
) -> Path:
    """Download the chosen files of a commit and what lies beside the weights of a model."""
    repo, _, commit = identity.partition("@")
    with client.translate_errors(f"downloading {repo}"), without_bars():
        files = files_of(client, repo, commit)
        wanted = {name: file for name, file in files.items() if chosen(name) or is_auxiliary(name)}
        snapshot = Snapshot(repo, commit, None, client)
        places = bring(snapshot, wanted, progress)
        record = cache_folder("verified") / f"{commit}.json"
        with alone_with(record, progress):
            known = Verified.load(record).files if record.is_file() else None
            if known != _states(places):
                check(snapshot, wanted, places, progress)
                Verified(files=_states(places)).save(record)
    return places["config.json"].parent


def tokenizer_folder(source: Source, client: Client, also: tuple[str, ...] = ()) -> Path:
    """Bring the tokenizer's files, config.json and some others alone; return their folder."""
    repo, _, commit = source.identity.partition("@")
    with client.translate_errors(f"reading the tokenizer of {repo}"), without_bars():
        files = files_of(client, repo, commit)
        wanted = {
            name: file
            for name, file in files.items()
            if name == "config.json"
            or ((name in also or is_tokenizer(name)) and file.size <= LARGEST_TOKENIZER)
        }
        places = bring(Snapshot(repo, commit, None, client), wanted, SILENT)
    return places["config.json"].parent


def _states(places: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Return size and time of last change of each file."""
    found = {name: path.stat() for name, path in places.items()}
    return {name: (each.st_size, each.st_mtime_ns) for name, each in found.items()}


def config_on_hub(repo: str, commit: str, client: Client) -> dict[str, Any]:
    """Read config.json of a repo."""
    address(f"{repo}@{commit}")
    with client.translate_errors(f"reading config.json of {repo}"):
        path = fetch_record(client, repo, "config.json", commit)
    return read_object(path)
