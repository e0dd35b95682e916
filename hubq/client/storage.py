"""Whether an account has room for a release: asked before anything is uploaded.

The Hub tells how much each repo holds (`usedStorage`, old commits and pull requests' references
included), and who pays for more. It tells nobody's limit: that of a free account is written in its
documentation (https://huggingface.co/docs/hub/storage-limits, of private repos), any other may be
set here. Open repos have no limit that is known beforehand.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hubq.client.client import Client
from hubq.client.credentials import origin
from hubq.client.repo_files import MOST_LISTED, at_most
from hubq.client.retries import failures
from hubq.errors import UserError
from hubq.machine.files import gigabytes
from hubq.records.vocabulary import PUBLIC_HUB

VARIABLE = "HUBQ_STORAGE"
FREE_PRIVATE = 100 * 10**9  # bytes of private repos, of users and organizations that don't pay
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?B)?", re.IGNORECASE)
COUNTED: Any = ["private", "usedStorage"]


@dataclass(frozen=True)
class Room:
    """What an account may store and does, in bytes; None where that is not known."""

    account: str
    kind: str  # of repos: "private", or "open"
    limit: int | None
    used: int | None
    remark: str  # where the limit is from, or why there is none

    @property
    def left(self) -> int | None:
        """The bytes that are left."""
        known = self.limit is not None and self.used is not None
        return max(0, self.limit - self.used) if known else None  # type: ignore[operator]

    def __str__(self) -> str:
        """Say how much is left, as far as that is known."""
        used = "not known" if self.used is None else gigabytes(self.used)
        if self.left is None:
            return f"{used} used by {self.kind} repos of {self.account}; {self.remark}"
        assert self.limit is not None
        return (
            f"{gigabytes(self.left)} of {gigabytes(self.limit)} left for {self.kind} repos of "
            f"{self.account} ({self.remark})"
        )


def room_for(repo: str, client: Client, *, private: bool) -> Room:
    """Look up how much the account of a repo may store and does.

    Raises UserError for a limit of the environment that is none.
    """
    account, kind = repo.partition("/")[0], "private" if private else "open"
    limit, remark = _limit(account, client, private=private)
    used = None if client.sent_token is None else _used(account, client, private=private)
    return Room(account, kind, limit, used, remark)


def shortage(needed: int, room: Room, client: Client) -> str | None:
    """Say what is lacking for so many bytes more, and the way out; None: they fit, or who knows."""
    if room.left is None or needed <= room.left:
        return None
    instead = ", or publish openly (publish.private: false)" if room.kind == "private" else ""
    return (
        f"not enough storage at {client.url}: publishing adds {gigabytes(needed)}, and there is "
        f"{room}.\nDelete repos, or old files in their settings (List LFS files), close pull "
        f"requests and delete their references{instead}. If {room.account} may store more, set "
        f"{VARIABLE}, such as {VARIABLE}=1TB"
    )


def require_room(needed: int, repo: str, client: Client, *, private: bool) -> None:
    """Raise UserError unless so many bytes more fit, as far as that is known."""
    if lacking := shortage(needed, room_for(repo, client, private=private), client):
        raise UserError(f"{lacking}; nothing was uploaded")


def _limit(account: str, client: Client, *, private: bool) -> tuple[int | None, str]:
    """Return the most that an account may store, and where that is from or why it isn't known."""
    if given := os.environ.get(VARIABLE):
        return _bytes(given), f"by {VARIABLE}"
    if not private:
        return None, f"the Hub names no limit; set {VARIABLE} to one of your own"
    if origin(client.url) != origin(PUBLIC_HUB):
        return None, f"this Hub names no limit; set {VARIABLE} to one of your own"
    paying = _pays(account, client)
    if paying is None:
        return None, f"this token doesn't tell what {account} may store; {VARIABLE} may"
    if paying:
        return None, f"{account} pays for more as it goes; {VARIABLE} sets a limit"
    return FREE_PRIVATE, "of an account that doesn't pay"


def _bytes(given: str) -> int:
    """Read an amount such as 100 GB or 2.5TB."""
    found = AMOUNT.fullmatch(given.strip())
    if found is None:
        raise UserError(f"{VARIABLE} is {given!r}; write an amount such as 100GB or 2.5TB")
    return int(float(found[1]) * UNITS[(found[2] or "").upper()])


def _pays(account: str, client: Client) -> bool | None:
    """Tell whether an account pays; None where the token may not know."""
    try:
        user = client.retries.call(client.api().whoami)
    except failures():
        return None
    if str(user.get("name")).lower() == account.lower():
        return bool(user.get("isPro"))
    for org in user.get("orgs", []):
        if str(org.get("name")).lower() == account.lower():
            return bool(org.get("isEnterprise") or org.get("plan"))
    return None


def _used(account: str, client: Client, *, private: bool) -> int | None:
    """Sum up what an account's repos hold that are as private; None where that isn't told."""
    try:
        held = client.retries.call(lambda: list(_held(account, client, private=private)))
    except failures():
        return None
    known = [each for each in held if each is not None]
    return sum(known) if len(known) == len(held) else None


def _held(account: str, client: Client, *, private: bool) -> Iterator[int | None]:
    """Yield the bytes that each repo holds; None where the Hub doesn't say."""
    api = client.api()
    for listed in (api.list_models, api.list_datasets, api.list_spaces):
        found: Any = listed(author=account, expand=COUNTED)
        for each in at_most(MOST_LISTED, found):
            if bool(each.private) == private:
                yield each.used_storage
