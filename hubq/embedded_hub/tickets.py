"""Signed, short-lived notes for requests that carry no user token: LFS parts, Xet, xorb URLs."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from hubq.embedded_hub.refusals import Refusal

# Answered with 403, not 401: a client would blame its token, which isn't even looked at.
ANEW = "Begin the upload or the download anew"


class Tickets:
    """Signs notes with the key of a root, so that an upload outlives the server's process."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, facts: Mapping[str, str | int], expires_in: int = 3600) -> str:
        """Write the facts into a ticket that nobody else can make."""
        note = json.dumps({**facts, "expires": int(time.time()) + expires_in}).encode()
        body = base64.urlsafe_b64encode(note)
        return f"{body.decode()}.{self._sign(body)}"

    def read(self, ticket: str, purpose: str) -> dict[str, str]:
        """Return the facts of a ticket of that purpose, or refuse a forged or expired one."""
        body, _, signature = ticket.encode(errors="replace").rpartition(b".")
        if not hmac.compare_digest(self._sign(body).encode(), signature):
            raise Refusal(403, f"This signature is not one of this hub. {ANEW}")
        facts = {str(key): str(value) for key, value in json.loads(_decode(body)).items()}
        if facts.get("purpose") != purpose:
            raise Refusal(403, f"This signature is not for {purpose}")
        if int(facts["expires"]) < time.time():
            raise Refusal(403, f"This signature has expired. {ANEW}")
        return facts

    def _sign(self, body: bytes) -> str:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest()


def _decode(body: bytes) -> bytes:
    return base64.urlsafe_b64decode(body)
