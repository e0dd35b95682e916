"""Checks of what the release was made of: the base is there, and under the license that is said."""

from hubq.sources.base_card import license_of
from hubq.stages.publish.attestation import PINNED
from hubq.stages.verify.findings import NOT_OURS, Found
from hubq.stages.verify.gather import Subject

ELSEWHERE = Found("unknown", "the weights came from files that are not on a Hub")


def base(subject: Subject) -> Found:
    """The commit of the base is on the Hub."""
    return _of_base(subject)[0]


def base_license(subject: Subject) -> Found:
    """The base at that commit has the license that the report names."""
    found, license = _of_base(subject)
    report = subject.report
    if report is None or found.status != "ok":
        return Found("unknown", found.reason)
    if report.plan.recipe.get("model", {}).get("license"):
        return Found("unknown", f"the recipe names {report.plan.license!s:.80}")
    if license != report.plan.license:
        said = f"the base says {license!s:.80}, and the report {report.plan.license!s:.80}"
        return Found("failed", said)
    return Found("ok", str(license))


def _of_base(subject: Subject) -> tuple[Found, str | None]:
    """Look the base up at its commit; return what was found, and its license."""
    report = subject.report
    if report is None:
        return NOT_OURS, None
    pinned = PINNED.fullmatch(report.plan.source)
    if pinned is None:
        return ELSEWHERE, None
    return _on_hub(pinned["repo"], pinned["commit"], subject)


def _on_hub(repo: str, commit: str, subject: Subject) -> tuple[Found, str | None]:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    client = subject.client
    with client.translate_errors(f"looking up {repo}"):
        try:
            info = client.retries.call(lambda: client.api().model_info(repo, revision=commit))
        except RevisionNotFoundError:
            return Found("failed", f"{repo} has no commit {commit}"), None
        except RepositoryNotFoundError:
            return Found("failed", f"{client.url} has no {repo}, or does not show it"), None
    told = info.card_data.to_dict() if info.card_data else {}
    return Found("ok", f"{repo} at {commit}"), license_of(told)
