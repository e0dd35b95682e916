"""Who is asking: users, organizations and their tokens, and tickets for requests without one.

Of a token only its sha256 is kept. A ticket is a signed, short-lived note: for the parts of an
upload, for Xet, for the addresses of xorbs.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hubq.embedded_hub.refusals import Refusal, bad_credentials, check_account_name
from hubq.embedded_hub.storage import Database

Role = Literal["read", "write"]
OrgRole = Literal["read", "write", "admin"]
# Answered with 403, not 401: a client would blame its token, which isn't even looked at.
ANEW = "Begin the upload or the download anew"


@dataclass(frozen=True)
class Visitor:
    """Who makes a request: nobody (no name) or a user with the role of the token."""

    name: str | None = None
    role: Role = "read"
    orgs: Mapping[str, OrgRole] = field(default_factory=dict)
    only: str | None = None  # the one repo that the token may write to; None: all of the user's

    @property
    def anonymous(self) -> bool:
        """Tell whether the request carried no token."""
        return self.name is None

    def belongs_to(self, namespace: str) -> bool:
        """Tell whether the namespace is the visitor's own or an organization of theirs."""
        return self._role_in(namespace) is not None

    def writes_to(self, namespace: str) -> bool:
        """Tell whether both the token and the membership allow to write to the namespace."""
        return self.role == "write" and self._role_in(namespace) in ("write", "admin")

    def _role_in(self, namespace: str) -> OrgRole | None:
        wanted = namespace.lower()
        if self.name is not None and self.name.lower() == wanted:
            return "admin"
        return next((role for org, role in self.orgs.items() if org.lower() == wanted), None)


class Accounts:
    """The users, organizations and tokens of one hub."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add_user(self, name: str) -> None:
        """Add a user unless the name is theirs already."""
        self._add(name, "user")

    def add_org(self, name: str, members: Mapping[str, OrgRole]) -> None:
        """Add an organization unless it exists, and give its members their roles."""
        self._add(name, "org")
        for user in members:
            self._add(user, "user")
        with self.database.transaction(write=True) as connection:
            connection.executemany(
                "INSERT INTO members VALUES (?, ?, ?)"
                " ON CONFLICT (org, user) DO UPDATE SET role = excluded.role",
                [(name, user, role) for user, role in members.items()],
            )

    def limit(self, name: str, most: int) -> None:
        """Let an account's private repos hold so many bytes of large files, and no more."""
        with self.database.transaction(write=True) as connection:
            connection.execute("INSERT OR REPLACE INTO quotas VALUES (?, ?)", (name, most))

    def most(self, name: str) -> int | None:
        """Return how many bytes an account's private repos may hold; None: as many as fit."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT bytes FROM quotas WHERE account = ?", (name,)
            ).fetchone()
        return row and int(row["bytes"])

    def kind_of(self, name: str) -> str | None:
        """Say whether a name is a 'user', an 'org' or nobody's."""
        with self.database.transaction() as connection:
            row = connection.execute("SELECT kind FROM accounts WHERE name = ?", (name,)).fetchone()
        return row and str(row["kind"])

    def mint(self, user: str, role: Role, expires_in: float | None, only: str | None = None) -> str:
        """Make a token for a user, or one that may write to `only` one repo; keep its digest.

        Raises ValueError when there is no such user.
        """
        if self.kind_of(user) != "user":
            raise ValueError(f"there is no user {user!r}")
        token = "hf_" + secrets.token_urlsafe(24)
        expires = None if expires_in is None else time.time() + expires_in
        with self.database.transaction(write=True) as connection:
            # A good moment to forget what nobody can use any more.
            connection.execute("DELETE FROM tokens WHERE expires < ?", (time.time(),))
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?)", (_digest(token), user, role, expires)
            )
            if only is not None:
                connection.execute("INSERT INTO narrow VALUES (?, ?)", (_digest(token), only))
        return token

    def revoke(self, token: str) -> None:
        """Forget a token."""
        with self.database.transaction(write=True) as connection:
            connection.execute("DELETE FROM tokens WHERE digest = ?", (_digest(token),))

    def identify(self, token: str) -> Visitor:
        """Return the visitor whom the token names, or refuse a bad or expired one."""
        digest = _digest(token)
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM tokens LEFT JOIN narrow USING (digest) WHERE digest = ?", (digest,)
            ).fetchone()
            if row is None or not hmac.compare_digest(row["digest"], digest):
                raise bad_credentials()
            if row["expires"] is not None and row["expires"] < time.time():
                raise bad_credentials()
        return replace(self.visitor(row["user"], row["role"]), only=row["repo"])

    def visitor(self, name: str, role: Role = "read") -> Visitor:
        """Return a user as a visitor, with the memberships of this moment."""
        with self.database.transaction() as connection:
            orgs = connection.execute(
                "SELECT org, role FROM members WHERE user = ? ORDER BY org", (name,)
            ).fetchall()
        return Visitor(name, role, {org["org"]: org["role"] for org in orgs})

    def _add(self, name: str, kind: str) -> None:
        check_account_name(name)
        with self.database.transaction(write=True) as connection:
            connection.execute("INSERT OR IGNORE INTO accounts VALUES (?, ?)", (name, kind))
        if (existing := self.kind_of(name)) != kind:
            raise ValueError(f"{name!r} is already the name of a {existing}")


def _digest(token: str) -> str:
    """Hash a token; it is random and long, so a plain sha256 cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()


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
