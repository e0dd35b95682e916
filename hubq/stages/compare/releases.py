"""What an organization published with hubq, as its Hub lists it now."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubq.client.client import Client
from hubq.client.error_messages import UNREAD
from hubq.client.repo_files import MOST_LISTED, at_most, commit_of, fetch_record, without_bars
from hubq.errors import UserError
from hubq.records.adapted_report import load_report
from hubq.records.report import Report
from hubq.records.run_folder import REPORT_IN_A_REPO
from hubq.stages.compare.comparison import entry

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

Tell = Callable[[str], None]  # what becomes of a sentence for the user
AT_ONCE = 8  # repos
TAG = "hubq"


class Release(NamedTuple):
    """A repo of hubq's at the commit that it is at."""

    repo: str
    commit: str
    private: bool
    report: Report | None  # None: it can't be read, which was told
    unread: str | None = None  # why it can't be


def listed(org: str, client: Client, base: str | None = None) -> "list[ModelInfo]":
    """List the models of an organization that name hubq; of a base, its adapters among them."""
    with client.translate_errors(f"asking {client.url} for the releases of {org}"):
        found = client.retries.call(
            lambda: at_most(
                MOST_LISTED,
                client.api().list_models(author=org, filter=TAG, expand=["sha", "private", "tags"]),
            )
        )
        own = [each for each in found if each.id.lower().startswith(f"{org.lower()}/")]
        for each in own:
            commit_of(each)
    own.sort(key=lambda each: each.id)
    return own if base is None else _of(base.partition("@")[0], own)


def _of(base: str, listed: "list[ModelInfo]") -> "list[ModelInfo]":
    """Pick what was made from a base, and the adapters of what was made from it."""
    made = {each.id for each in listed if _names(each, {base})}
    return [each for each in listed if _names(each, {base, *made})]


def _names(info: "ModelInfo", bases: set[str]) -> bool:
    """Tell whether a model's tags say that it was made from one of these."""
    return any(
        tag.startswith("base_model:") and tag.rpartition(":")[2] in bases for tag in info.tags or ()
    )


def releases(org: str, client: Client, tell: Tell, base: str | None = None) -> list[Release]:
    """Read what an organization published with hubq, in order of names; what has no report isn't.

    A report that can't be read is told, and does not stop the others.
    """
    infos = listed(org, client, base)
    with without_bars(), ThreadPoolExecutor(AT_ONCE) as executor:
        read = list(executor.map(partial(_report, client=client), infos))
    return list(_found(infos, read, tell))


def _found(
    infos: "Iterable[ModelInfo]", read: Iterable[Report | UserError | None], tell: Tell
) -> Iterable[Release]:
    for info, report in zip(infos, read, strict=True):
        if report is None:
            continue
        place = (info.id, commit_of(info), info.private is not False)
        if isinstance(report, UserError):
            tell(f"{info.id} is left out of the related models: {report}")
            yield Release(*place, report=None, unread=str(report))
        else:
            yield Release(*place, report)


def _report(info: "ModelInfo", client: Client) -> Report | UserError | None:
    """Read a repo's report; return why that can't be; None: there is none."""
    try:
        with client.translate_errors(f"reading the report of {info.id}"):
            path = _fetched(info, client)
        return None if path is None else _understood(load_report(path))
    except UserError as error:
        return error


def _understood(report: Report) -> Report:
    """Return a report of which a row can be made: its recipe is whatever others wrote there."""
    try:
        entry(report)
        bool(report.plan.recipe["publish"]["private"])
    except (ValueError, *UNREAD) as error:
        raise UserError(f"its report can't be understood ({error!s:.200})") from error
    return report


def _fetched(info: "ModelInfo", client: Client) -> Path | None:
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return fetch_record(client, info.id, REPORT_IN_A_REPO, commit_of(info))
    except RemoteEntryNotFoundError:
        return None
