"""A model on the Hub: pinned to a commit, looked up by its headers, downloaded and verified."""

import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.cache import cache_folder
from hubq.client import Client
from hubq.digest import sha256_of
from hubq.disk import require_space
from hubq.errors import UserError
from hubq.progress import Progress
from hubq.recipe import ModelSection
from hubq.record import Record
from hubq.shards import TensorInfo
from hubq.source import PICKLES, Source, check_config

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

# Beside the weights: config, tokenizer, chat template, licence. Nothing that runs.
COMPANIONS = (
    "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt",
    "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "USE-POLICY*",
)  # fmt: skip


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
    config = json.loads(_file(repo, "config.json", str(info.sha), client).read_bytes())
    check_config(config, repo)
    card = info.card_data.to_dict() if info.card_data else {}
    return Source(
        section=model,
        identity=f"{info.id}@{info.sha}",
        config=config,
        tensors=_headers(repo, str(info.sha), client),
        base_model=model.base_model or info.id,
        license=model.license or _license(card),
        gated=bool(info.gated),
    )


def _license(card: dict[str, Any]) -> str | None:
    """Return the licence's id: `license`, or `license_name` where that says only "other"."""
    found = card.get("license")
    if isinstance(found, list):
        found = found[0] if found else None
    return card.get("license_name") or found if found == "other" else found


def _refuse_what_has_no_safetensors(repo: str, info: "ModelInfo") -> None:
    names = [each.rfilename for each in info.siblings or []]
    if "config.json" not in names:
        raise UserError(f"{repo} has no config.json, so it is no model that hubq can quantize")
    if any(name.endswith(".safetensors") for name in names):
        return
    pickled = any(fnmatch(name, pattern) for name in names for pattern in PICKLES)
    only = "only pickled weights, which run code when they are read" if pickled else "no weights"
    raise UserError(f"{repo} has {only}: no safetensors; convert first, or name another model")


def _headers(repo: str, commit: str, client: Client) -> dict[str, TensorInfo]:
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
    repo, _, commit = source.identity.partition("@")
    with client.speaking(f"looking up {repo}"):
        info = client.patience.keep_trying(
            lambda: client.api().model_info(repo, revision=commit, files_metadata=True)
        )
    weights = {each.file for each in source.tensors.values()}
    wanted = [each for each in info.siblings or [] if _is_wanted(each.rfilename, weights)]
    total = sum(each.size or 0 for each in wanted)
    require_space(_hub_cache(), total - _cached(repo, commit, wanted), f"{repo}'s download")
    folder = Path()
    record = cache_folder("verified") / f"{commit}.json"
    known = Verified.load(record).files if record.is_file() else {}
    with progress.task(f"downloading {repo}", total) as advance:
        for sibling in wanted:
            path = _verified(repo, commit, sibling, known, client)
            folder = path.parent
            known = known | {sibling.rfilename: _state(path)}
            advance(sibling.size or 0)
    Verified(files=known).save(record)
    return folder


def _is_wanted(name: str, weights: set[str]) -> bool:
    return name in weights or any(fnmatch(name, each) for each in COMPANIONS if "/" not in name)


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(repo: str, commit: str, wanted: list["RepoSibling"]) -> int:
    """Return the bytes that are here already."""
    from huggingface_hub import try_to_load_from_cache

    return sum(
        each.size or 0
        for each in wanted
        if isinstance(try_to_load_from_cache(repo, each.rfilename, revision=commit), str)
    )


def _verified(
    repo: str,
    commit: str,
    sibling: "RepoSibling",
    known: dict[str, tuple[int, int]],
    client: Client,
) -> Path:
    """Return a file whose bytes are the Hub's; a damaged one is downloaded once more."""
    name = sibling.rfilename
    path = _file(repo, name, commit, client)
    if known.get(name) == _state(path) or _is_whole(path, sibling):
        return path
    path = _file(repo, name, commit, client, again=True)
    if not _is_whole(path, sibling):
        raise UserError(
            f"{name} of {repo} arrived twice with other bytes than the Hub says it has; "
            "check the disk and the network between, then run again"
        )
    return path


def _file(repo: str, name: str, commit: str, client: Client, *, again: bool = False) -> Path:
    with client.speaking(f"downloading {name} of {repo}"):
        return Path(
            client.patience.keep_trying(
                lambda: client.api().hf_hub_download(
                    repo, name, revision=commit, force_download=again
                )
            )
        )


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _is_whole(path: Path, sibling: "RepoSibling") -> bool:
    """Compare a file with the hash that the Hub gives: sha256, or git's for a small file."""
    if sibling.lfs is not None:
        return sha256_of(path) == sibling.lfs.sha256
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return blob.hexdigest() == sibling.blob_id
