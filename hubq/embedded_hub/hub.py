"""All the stores of one hub, opened from its root folder."""

import os
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

from hubq.embedded_hub.accounts import Accounts, Tickets
from hubq.embedded_hub.committing import Locks
from hubq.embedded_hub.history import Histories
from hubq.embedded_hub.repositories import Repositories
from hubq.embedded_hub.storage import Database, Objects
from hubq.embedded_hub.xet import Xet
from hubq.errors import UserError

FIRST_USER = "local"
LOOPBACK = ("127.0.0.1", "localhost")  # where a hub may listen, and what its visitors may call it


def close_to_others(root: Path) -> None:
    """Make a folder that only its owner enters, or close one that exists.

    Raises UserError for a folder that is somebody else's, everybody's, or stays open.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    way_out = "Choose another folder for the hub, one of your own"
    if root.stat().st_uid != os.getuid():
        raise UserError(f"The hub's folder {root} belongs to another user. {way_out}.")
    if root.stat().st_mode & stat.S_ISVTX:
        raise UserError(f"The folder {root} is everybody's, as /tmp is. {way_out}.")
    if root.stat().st_mode & 0o077:
        root.chmod(0o700)
    if root.stat().st_mode & 0o077:
        raise UserError(f"The file system of {root} closes no folder to other users. {way_out}.")


@dataclass(frozen=True)
class Hub:
    """What request handlers work on."""

    root: Path
    instance: str  # of this server process
    series: str  # of this root, whichever process serves it
    database: Database
    accounts: Accounts
    repositories: Repositories
    histories: Histories
    objects: Objects
    xet: Xet
    tickets: Tickets
    locks: Locks

    @classmethod
    def open(cls, root: Path) -> "Hub":
        """Open the hub in a folder; make what is missing."""
        close_to_others(root)
        database = Database(root / "hub.sqlite")
        database.prepare()
        accounts = Accounts(database)
        accounts.add_user(FIRST_USER)
        objects = Objects(root / "objects")
        return cls(
            root,
            instance=uuid.uuid4().hex,
            series=database.fact("series"),
            database=database,
            accounts=accounts,
            repositories=Repositories(database),
            histories=Histories(root / "repos"),
            objects=objects,
            xet=Xet(root / "xet", database, objects),
            tickets=Tickets(bytes.fromhex(database.fact("ticket_key", size=32))),
            locks=Locks(),
        )
