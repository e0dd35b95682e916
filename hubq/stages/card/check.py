"""Whether a card says what its records say: it is written anew and compared."""

from itertools import zip_longest
from pathlib import Path

from hubq.errors import UserError
from hubq.records.adapted_report import load_report
from hubq.records.attestation import signer_in
from hubq.records.report import Report
from hubq.records.run_folder import REPORT, REPORT_IN_A_REPO, record_in
from hubq.records.versions import versions_in
from hubq.stages.card.card import CARD, contents
from hubq.stages.card.plots import alike
from hubq.stages.card.sections.figures import FOLDER
from hubq.stages.compare.reports import siblings_in

SHOWN = 3  # lines that differ
NOTHING = "(no such line)"


def report_in(folder: Path) -> Report:
    """Return the report of a card's folder; raise UserError where there is none."""
    path = record_in(folder, REPORT)
    if path is None:
        raise UserError(
            f"{folder} holds neither {REPORT} nor {REPORT_IN_A_REPO}, so no card can be written "
            "or checked there.\nName a run folder, a folder of model_cards/, or a copy of a repo"
        )
    return load_report(path)


def differences(folder: Path) -> list[str]:
    """Say where a folder's card or pictures are not what its records make of them."""
    records = (siblings_in(folder), signer_in(folder), versions_in(folder))
    return compared(folder, contents(report_in(folder), *records))


def compared(folder: Path, made: dict[str, bytes]) -> list[str]:
    """Say where a folder's page or pictures are not those that were made."""
    pictures = {name: content for name, content in made.items() if name != CARD}
    return [*_lines(folder / CARD, made[CARD].decode()), *_pictures(folder, pictures)]


def _lines(path: Path, written: str) -> list[str]:
    """Compare a card with what it should be; the first few lines that differ say enough."""
    if not path.is_file():
        return [f"{path} is missing"]
    pairs = zip_longest(
        path.read_text(encoding="utf-8", errors="replace").splitlines(),
        written.splitlines(),
        fillvalue=NOTHING,
    )
    found = [
        f"{path}, line {number}\n  it says:         {here}\n  its records say: {there}"
        for number, (here, there) in enumerate(pairs, start=1)
        if here != there
    ]
    more = [f"{path}, {len(found) - SHOWN} more lines"] if len(found) > SHOWN else []
    if not found and path.read_bytes() != written.encode():
        return [f"{path} differs in its line endings or encoding"]
    return [*found[:SHOWN], *more]


def _pictures(folder: Path, made: dict[str, bytes]) -> list[str]:
    """Compare the pictures; a file that the card does not have must not lie there either."""
    there = {
        path.relative_to(folder).as_posix()
        for path in (folder / FOLDER).glob("*")
        if path.is_file()
    }
    wrong = [
        f"{folder / name} does not match its records"
        for name in sorted(made.keys() & there)
        if not alike((folder / name).read_bytes(), made[name])
    ]
    missing = [f"{folder / name} is missing" for name in sorted(made.keys() - there)]
    more = [
        f"{folder / name} is not a picture of this card" for name in sorted(there - made.keys())
    ]
    return [*wrong, *missing, *more]
