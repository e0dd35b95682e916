"""All the stores of one hub, opened from its root folder."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from hubq.hub.accounts import Accounts
from hubq.hub.committing import Locks
from hubq.hub.database import Database
from hubq.hub.history import Histories
from hubq.hub.objects import Objects
from hubq.hub.repositories import Repositories
from hubq.hub.tickets import Tickets
from hubq.hub.xet import Xet

FIRST_USER = "local"


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
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
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
            tickets=Tickets(),
            locks=Locks(),
        )
