"""A model on the Hub: pinned to a commit, looked up by its headers, downloaded and verified."""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.base_card import BaseCard, base_card, known_card
from hubq.cache import cache_folder
from hubq.client import Client
from hubq.companions import is_companion, is_tokenizer
from hubq.errors import UserError
from hubq.front_matter import UnreadableCardError, front_matter
from hubq.json_object import read_object
from hubq.progress import Progress
from hubq.recipe_inputs import ModelSection
from hubq.record import Record
from hubq.shards import INDEX, TensorInfo
from hubq.source import PICKLES, Source, check_config

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

LARGEST_TOKENIZER = 64_000_000  # bytes of a file: the greatest vocabularies take half of that


class Verified(Record):
    """Which files of a commit had the Hub's hashes, and how they lay here then."""

    files: dict[str, tuple[int, int]]  # name -> size and time of last change


def find_on_hub(model: ModelSection, client: Client) -> Source:
    """Read config.json and the safetensors headers of a repo, at the commit it is at now."""
    assert model.hub is not None
    repo, _, revision = model.hub.partition("@")
    with client.speaking(f"looking up {model.hub}"):
        info = client.patience.keep_trying(
            lambda: client.api().model_info(repo, revision=revision or None)
        )
    _refuse_what_has_no_safetensors(repo, info)
    config = config_on_hub(repo, str(info.sha), client)
    check_config(config, repo)
    card = _card(info, client, model.license)
    return Source(
        section=model,
        identity=f"{info.id}@{info.sha}",
        config=config,
        tensors=headers_on_hub(repo, str(info.sha), client),
        base_model=model.base_model or info.id,
        license=model.license or card.license,
        card=card,
    )


def card_on_hub(repo: str, client: Client, license: str | None = None) -> BaseCard | None:
    """Return what a repo says that its copies carry on; None where this Hub can't be asked for it.

    Whether it is asked in vain says nothing about the model: it may live on another Hub. A card
    that is there and can't be read is an error, unless the licence is known otherwise.
    """
    try:
        with client.speaking(f"looking up {repo}"):
            info = client.patience.keep_trying(lambda: client.api().model_info(repo))
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
    with client.speaking(f"reading the card of {info.id}"):
        path = client.patience.keep_trying(
            lambda: client.api().hf_hub_download(info.id, "README.md", revision=info.sha)
        )
    where = f"the card of {info.id}"
    return known_card(lambda: front_matter(Path(path).read_bytes(), where)[0], license, info.gated)


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
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    with client.speaking(f"reading the headers of {repo}"):
        try:
            found = client.patience.keep_trying(
                lambda: client.api().get_safetensors_metadata(repo, revision=commit)
            )
        except NotASafetensorsRepoError as error:
            raise UserError(
                f"{repo} has neither model.safetensors nor its index, so it is no model for hubq"
            ) from error
        except SafetensorsParsingError as error:
            raise UserError(f"{repo} has damaged safetensors files: {error}") from error
    return {
        name: TensorInfo(file, each.dtype, tuple(each.shape), *each.data_offsets)
        for file, header in found.files_metadata.items()
        for name, each in header.tensors.items()
    }


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


def tokenizer_folder(source: Source, client: Client) -> Path:
    """Bring the tokenizer's files alone, and config.json; return their folder."""
    from hubq.progress import SILENT
    from hubq.pull import Snapshot
    from hubq.pull import download as bring
    from hubq.remote import files_of, without_bars

    repo, _, commit = source.identity.partition("@")
    with client.speaking(f"reading the tokenizer of {repo}"), without_bars():
        files = files_of(client, repo, commit)
        wanted = {
            name: file
            for name, file in files.items()
            if name == "config.json" or (is_tokenizer(name) and file.size <= LARGEST_TOKENIZER)
        }
        places = bring(Snapshot(repo, commit, None, client), wanted, SILENT)
    return places["config.json"].parent


def _is_wanted(name: str, weights: set[str]) -> bool:
    return name in weights or name == INDEX or is_companion(name)


def _states(places: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Return size and time of last change of each file."""
    found = {name: path.stat() for name, path in places.items()}
    return {name: (each.st_size, each.st_mtime_ns) for name, each in found.items()}


def config_on_hub(repo: str, commit: str, client: Client) -> dict[str, Any]:
    """Read config.json of a repo."""
    with client.speaking(f"reading config.json of {repo}"):
        path = client.patience.keep_trying(
            lambda: client.api().hf_hub_download(repo, "config.json", revision=commit)
        )
    return read_object(Path(path))
