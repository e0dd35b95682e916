"""Let a branch be at a commit that the repo holds already: git's own push, without any file.

The Hub's API makes new commits only, for which small files are sent again, and its merge of a pull
request names no head. git's protocol names both the head that was and the commit that is to be, and
moves the branch if it was there, or not at all (git-receive-pack, protocol version 0). The objects
are there, so the pack that goes along is empty: git sends the same ("Total 0").
"""

import base64
import hashlib
import re
from collections.abc import Iterator

from hubq.client.client import Client
from hubq.client.commit import Change, landed
from hubq.client.retries import failures, is_transient

EMPTY = b"PACK" + (2).to_bytes(4) + (0).to_bytes(4)
EMPTY_PACK = EMPTY + hashlib.sha1(EMPTY).digest()
FLUSH = b"0000"
HEXADECIMAL = re.compile(rb"[0-9a-fA-F]{4}")
LENGTH = 4  # hexadecimal digits before each line, which count themselves too


def pushed(change: Change, commit: str, client: Client) -> str | None:
    """Let the branch be at a commit upon its head; return its id. None: the Hub takes no push.

    Where somebody was faster, it is what they committed if that is just this change; else
    UserError, and nothing was overwritten.
    """
    attempt = 1
    while True:
        failure: BaseException | None = None
        try:
            if _push(change, commit, client):
                return commit
        except failures() as error:
            failure = error
        if found := landed(change, client):
            return found
        if failure is None or not is_transient(failure):
            return None
        if not client.retries.rest(failure, attempt):
            raise failure
        attempt += 1


def _push(change: Change, commit: str, client: Client) -> bool:
    """Try once; tell whether the Hub says that it did it."""
    ref = f"refs/heads/{change.branch}"
    answer = client.send(
        "POST",
        f"/{change.repo}.git/git-receive-pack",
        content=request(ref, change.head, commit),
        headers={
            "Authorization": _basic(client.sent_token or ""),
            "Content-Type": "application/x-git-receive-pack-request",
            "Accept": "application/x-git-receive-pack-result",
        },
    )
    return {b"unpack ok", f"ok {ref}".encode()} <= set(_lines(answer))


def request(ref: str, old: str, new: str) -> bytes:
    """Return what asks to move a ref from one commit to another."""
    command = f"{old} {new} {ref}\0 report-status\n".encode()
    return b"%04x" % (LENGTH + len(command)) + command + FLUSH + EMPTY_PACK


def _basic(token: str) -> str:
    """Give a token as git does: as a password, with any name."""
    return "Basic " + base64.b64encode(f"user:{token}".encode()).decode()


def _lines(answer: bytes) -> Iterator[bytes]:
    """Yield the lines of an answer, as far as it has git's form."""
    while len(answer) >= LENGTH:
        digits = answer[:LENGTH]
        size = int(digits, 16) if HEXADECIMAL.fullmatch(digits) else 0
        if size <= LENGTH or size > len(answer):
            return
        yield answer[LENGTH:size].strip()
        answer = answer[size:]
