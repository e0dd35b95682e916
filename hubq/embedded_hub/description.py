"""What the API says about a repo: the answer behind model_info, dataset_info and space_info."""

from datetime import UTC, datetime
from typing import Any

from dulwich.objects import Commit
from dulwich.repo import Repo

from hubq.embedded_hub.eval_results import list_results
from hubq.embedded_hub.history import Entry, commit_id, describe, list_entries, read_blob
from hubq.embedded_hub.hub import Hub
from hubq.embedded_hub.repositories import Repository
from hubq.records.parsing import card_metadata, card_tags, read_damaged_json

MAX_CONFIG = 1024 * 1024


def timestamp(seconds: float) -> str:
    """Write a time as the API does."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def describe_repo(
    hub: Hub, repo: Repository, git: Repo, commit: Commit, *, blobs: bool = False
) -> dict[str, Any]:
    """Describe a repo at a commit; with `blobs`, its files' ids and sizes too."""
    entries = list_entries(git, commit)
    card = read_card(git, entries)
    answer: dict[str, Any] = {
        "_id": repo.id[:24],
        "id": repo.full_name,
        "author": repo.namespace,
        "sha": commit_id(commit),
        "lastModified": timestamp(commit.commit_time),
        "createdAt": timestamp(repo.created),
        "private": repo.private,
        "gated": False if repo.gate == "no" else repo.gate,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "cardData": card or None,
        "tags": card_tags(card, repo.kind),
        "siblings": [_sibling(git, path, entry, blobs) for path, entry in sorted(entries.items())],
        "usedStorage": sum(hub.objects.size(sha) or 0 for sha in hub.repositories.holdings(repo)),
    }
    if repo.kind == "model":
        answer |= _model(git, entries, card, answer)
    if repo.kind == "space":
        answer |= {"sdk": card.get("sdk") or repo.sdk, "runtime": runtime(repo)}
    return answer


def runtime(repo: Repository) -> dict[str, Any]:
    """Describe what a Space runs on. It never runs here: the hub only keeps it."""
    hardware = repo.hardware or "cpu-basic"
    return {
        "stage": repo.stage or "STOPPED",
        "hardware": {"current": None, "requested": hardware},
        "gcTimeout": repo.sleep,
        "storage": None,
        "replicas": {"requested": 1},
    }


def read_card(git: Repo, entries: dict[str, Entry]) -> dict[str, Any]:
    """Return the metadata of the repo's card in values that JSON can hold."""
    entry = entries.get("README.md")
    readme = read_blob(git, entry.blob).decode(errors="replace") if entry else ""
    return card_metadata(readme)


def _sibling(git: Repo, path: str, entry: Entry, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    file = describe(git, path, entry)
    answer: dict[str, Any] = {"rfilename": path, "blobId": file.blob, "size": file.size}
    if file.pointer:
        answer["lfs"] = {
            "sha256": file.pointer.sha256,
            "size": file.size,
            "pointerSize": file.stored,
        }
    return answer


def _model(
    git: Repo, entries: dict[str, Entry], card: dict[str, Any], answer: dict[str, Any]
) -> dict[str, Any]:
    config = _config(git, entries)
    named = card.get("library_name")
    library = named if isinstance(named, str) else None
    library = library or ("transformers" if "model_type" in config else None)
    tags = [*([library] if library else []), *answer["tags"]]
    if any(path.endswith(".safetensors") for path in entries):
        tags.append("safetensors")
    return {
        "modelId": answer["id"],
        "pipeline_tag": card.get("pipeline_tag"),
        "library_name": library,
        "tags": list(dict.fromkeys(tags)),
        "config": config,
        "model-index": card.get("model-index"),
        "evalResults": list_results(git, entries),
        "spaces": [],
    }


def _config(git: Repo, entries: dict[str, Entry]) -> dict[str, Any]:
    """Pick from config.json what the Hub shows of it."""
    content = read_blob(git, entries["config.json"].blob) if "config.json" in entries else b"{}"
    values = read_damaged_json(content) if len(content) < MAX_CONFIG else None
    shown = ("architectures", "model_type", "quantization_config")
    return {key: values[key] for key in shown if key in values} if isinstance(values, dict) else {}
