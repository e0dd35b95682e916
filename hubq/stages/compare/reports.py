"""Where reports lie, on this machine and on a Hub; and the other releases of the same base.

They are found in folders beside a card's and on the Hub, and saved as a record of their own, so
that the card stays a function of records. Only what is released counts: a run that was never
published is nobody's choice yet, and a private model is not shown on a public one's card.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hubq.client.client import Client
from hubq.client.repo_files import fetch_record, head_of, without_bars
from hubq.client.retries import status_of
from hubq.errors import UserError
from hubq.records.adapted_report import kind_of_report, load_report
from hubq.records.plan import Plan
from hubq.records.record import Record
from hubq.records.report import Assessment, Measured, Report, Subject
from hubq.records.run_folder import (
    ADAPTED,
    FAMILY,
    PLAN,
    PUBLICATION,
    REPORT,
    REPORT_IN_A_REPO,
    SIBLINGS,
    record_in,
)
from hubq.records.vocabulary import address
from hubq.stages.compare.comparison import Entry, entry, families
from hubq.stages.compare.releases import Tell, releases

NOT_SHOWN = (401, 403)  # to a token for one repo


class Siblings(Record):
    """What the other releases' own reports say of them, fewest bits first."""

    entries: tuple[Entry, ...] = ()


def siblings_in(folder: Path) -> Siblings:
    """Return the siblings that were saved in a folder; none where no record is."""
    path = record_in(folder, SIBLINGS)
    return Siblings() if path is None else Siblings.load(path)


def keep(siblings: Siblings, folder: Path) -> None:
    """Save siblings in a folder, beside its report."""
    report = record_in(folder, REPORT)
    siblings.save((folder if report is None else report.parent) / SIBLINGS)


def siblings_of(report: Report, reports: Iterable[Report]) -> Siblings:
    """Pick those of the same base that were measured alike, each once: the last of one name.

    An adapter and what it is loaded on name one another in any case, so neither is a sibling.
    """
    may_be_private = _is_private(report)
    others = {each.plan.repo: each for each in reports if may_be_private or not _is_private(each)}
    for name in _own_repos(report.plan):
        others.pop(name, None)
    own, *_ = families([report, *others.values()])
    return Siblings(entries=in_order(each for each in own.entries if each.name != report.plan.repo))


def _own_repos(plan: Plan) -> set[str]:
    """Name the repos of a recipe: that of the report, and the other one where it adapts."""
    if plan.adaptation is None:
        return {plan.repo}
    return {plan.repo, plan.adaptation.repo, plan.adaptation.quantized.partition("@")[0]}


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Sort entries by the bits of their whole files, the fewest first."""
    return tuple(sorted(entries, key=lambda each: (each.model_bits, each.name)))


def _is_private(report: Report) -> bool:
    return bool(report.plan.recipe["publish"]["private"])


def find_siblings(
    report: Report, folder: Path, tell: Tell, client: Client | None = None
) -> Siblings:
    """Find the siblings beside a folder and on the Hub; without a client keep those saved."""
    found = list(beside(folder, tell))
    if client is not None:
        return siblings_of(report, [*found, *on_hub(report, client, tell)])
    known = siblings_of(report, found).entries
    names = {each.name for each in known}
    kept = [each for each in siblings_in(folder).entries if each.name not in names]
    return Siblings(entries=in_order([*known, *kept]))


def beside(folder: Path, tell: Tell) -> Iterator[Report]:
    """Yield the reports of released models in the folders beside one, in order of their names.

    A run may hold what was adapted of it, which lies beside other runs as the run does.
    """
    own = folder.absolute()
    run = own.parent if own.name == ADAPTED and (own.parent / PLAN).is_file() else own
    beside_it = [each for each in sorted(run.parent.iterdir()) if each.is_dir()]
    for other in (place for each in beside_it for place in (each, each / ADAPTED)):
        path = record_in(other, REPORT)
        is_run = (other / PLAN).is_file()
        if path is None or other == own:
            continue
        if (not is_run or (other / PUBLICATION).is_file()) and (
            found := _readable_report(path, tell)
        ):
            yield found


def on_hub(report: Report, client: Client, tell: Tell) -> Iterator[Report]:
    """Yield the reports of what the same organization published of the same base."""
    base, organization = report.plan.base_model, report.plan.repo.partition("/")[0]
    if base is None:
        return
    try:
        found = releases(organization, client, tell, base)
    except UserError as error:
        cause = error.__cause__
        if cause is None or (status_of(cause) or 0) not in NOT_SHOWN:
            raise
        tell(f"this token may not list {organization}'s repos: siblings there are left out")
        return
    for each in found:
        is_hidden = each.private and not _is_private(report)
        if each.report is not None and each.repo != report.plan.repo and not is_hidden:
            yield each.report


def report_on_hub(repo: str, client: Client, record: str = REPORT_IN_A_REPO) -> Path | None:
    """Fetch the report that a repo holds, org/name or org/name@revision; None: it holds none.

    `record` is the path of another record that is wanted instead.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError

    name, revision = address(repo)
    with client.translate_errors(f"reading {record} of {repo}"), without_bars():
        # By its commit: of a branch an old copy would do, where the Hub can't be reached.
        commit, _ = head_of(client, name, revision)
        try:
            return fetch_record(client, name, record, commit)
        except RemoteEntryNotFoundError:
            return None


def _readable_report(path: Path, tell: Tell) -> Report | None:
    """Read another release's report; where that can't be, say so and go on without it."""
    try:
        return load_report(path)
    except UserError as error:
        tell(f"one model is left out of the related models: {error}")
        return None


def gather(words: Sequence[str], client: Client) -> list[Measured]:
    """Read what was measured of each model; raise UserError that lists all that can't be read.

    A word is a folder with a report (a run's, a card's or a repo's), the file of a record, or
    org/name with an optional @revision: of a repo only the report is fetched. A family's page is
    about those beside it, so its folder is passed over.
    """
    found, mistakes = [], []
    words = [word for word in words if not (Path(word) / FAMILY).is_file()]
    for word in words:
        try:
            found.append(_read(_record(word, client)))
        except UserError as error:
            mistakes.append(str(error))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return _told_apart(found, words)


def _record(word: str, client: Client) -> Path:
    """Return the file of a record on this machine."""
    path = Path(word).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    if word.startswith((".", "/", "~")) or word.partition("@")[0].count("/") != 1:
        raise UserError(f"there is neither a folder nor a file {word}; a repo is org/name")
    found = report_on_hub(word, client)
    if found is None:
        raise UserError(
            f"{word} was not published by hubq: it holds no report of measurements.\n"
            f"Measure it: hubq evaluate --model {word} --against BASE"
        )
    return found


def _in_folder(folder: Path) -> Path:
    if (found := record_in(folder, REPORT)) is not None:
        return found
    if (folder / PLAN).is_file():
        raise UserError(
            f"{folder} is a run that is not measured yet; run hubq evaluate with its recipe"
        )
    raise UserError(
        f"{folder} holds no {REPORT}, so nothing is known of it.\n"
        f"Measure it: hubq evaluate --model {folder} --against BASE"
    )


def _read(path: Path) -> Measured:
    """Read a record of any kind."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} holds no measurements: it is not JSON ({error})") from error
    return kind_of_report(values).load(path)


def _told_apart(found: Sequence[Measured], words: Sequence[str]) -> list[Measured]:
    """Add to names that several models have where each comes from."""
    counts = Counter(entry(each).name for each in found)
    return [
        _named(each, f"{name} ({word})") if counts[name := entry(each).name] > 1 else each
        for each, word in zip(found, words, strict=True)
    ]


def _named(measured: Measured, name: str) -> Measured:
    """Give a model another name."""
    if isinstance(measured, Report):
        plan = measured.plan.model_copy(update={"repo": name})
        return measured.model_copy(update={"plan": plan})
    assert isinstance(measured, Assessment), "there are two kinds of what was measured"
    subject: Subject = measured.subject.model_copy(update={"name": name})
    return measured.model_copy(update={"subject": subject})
