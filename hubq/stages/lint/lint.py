"""Lint a release: every rule applied, and what that means for each engine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hubq.errors import UserError
from hubq.machine.engines import readers_of
from hubq.stages.lint.findings import ENGINES, TRANSFORMERS, Finding, findings
from hubq.stages.lint.format_rules import JUDGED, answers
from hubq.stages.lint.release import Release
from hubq.stages.lint.serving import BY_SOURCES, OWN, Serving
from hubq.stages.lint.table import RULES

BY_ITSELF = ("hubq or trust_remote_code=True",)
ORDER = ("error", "warning", "note")


@dataclass(frozen=True)
class Verdict:
    """What the rules found in a release."""

    release: str
    findings: tuple[Finding, ...]  # the gravest first
    engines: Mapping[str, tuple[str, ...]]  # the rules that stop each engine; none: it loads it
    needs: tuple[str, ...]  # the packages that transformers needs to load it
    served: Mapping[str, Serving]  # of engines that read the format, how that is known
    unknown: str | None = None  # what of it the rules know nothing about

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(each for each in self.findings if each.severity == "error")

    def loads(self, engine: str) -> bool | None:
        """Tell whether an engine loads it; None where that isn't known."""
        if self.engines[engine]:
            return False
        if self.unknown is not None:
            return None
        return self.served[engine].loads if engine in self.served else True

    def known(self, engine: str) -> str:
        """Say how it is known whether an engine loads it: what lint found, or what was tried."""
        if stopping := [each.what for each in self.findings if engine in each.engines]:
            return "; ".join(stopping)
        if self.unknown is not None:
            return f"not known: no rule is about {self.unknown}"
        return self.served[engine].known if engine in self.served else BY_SOURCES

    def as_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "release": self.release,
            "engines": {
                name: {"loads": self.loads(name), "rules": [*by], "known": self.known(name)}
                for name, by in self.engines.items()
            },
            "needs": [*self.needs],
            "findings": [each.as_json() for each in self.findings],
        }


def lint(release: Release) -> Verdict:
    """Apply all rules to a release."""
    found = sorted(
        (each for rule in RULES for each in findings(rule, release)),
        key=lambda each: ORDER.index(each.severity),
    )
    stopped = {
        engine: tuple(dict.fromkeys(each.rule for each in found if engine in each.engines))
        for engine in ENGINES
    }
    return Verdict(
        release=release.name,
        findings=tuple(found),
        engines={} if release.is_adapter else stopped,
        needs=BY_ITSELF if release.method == OWN else readers_of(release.layout or "").packages,
        served=answers(release),
        unknown=_unknown(release),
    )


def _unknown(release: Release) -> str | None:
    """Name what of a release decides whether an engine loads it, and no rule is about."""
    if release.method not in JUDGED:
        return f"{release.method}'s readers"
    return None if release.family or not release.config else str(release.architecture)[:80]


def loading(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield each engine, and whether it loads the release or which rules say that it doesn't."""
    open_ones = [engine for engine, rules in verdict.engines.items() if not rules]
    for engine, rules in verdict.engines.items():
        if rules:
            yield engine, f"no ({', '.join(rules)})"
        elif verdict.unknown is None:
            yield engine, _answer(verdict, engine)
    if verdict.unknown is not None and open_ones:
        yield ", ".join(open_ones), f"not known (no rule is about {verdict.unknown})"


def _answer(verdict: Verdict, engine: str) -> str:
    """Say what an engine that no rule stops makes of a release."""
    if engine == TRANSFORMERS:
        return f"loads it, with {' and '.join(verdict.needs)}" if verdict.needs else "loads it"
    known = verdict.known(engine)
    return f"loads it ({known})" if verdict.loads(engine) else f"not known ({known})"


def described(finding: Finding) -> str:
    """Say what was found, in which engines that matters, and the way out."""
    stops = f" Stops {', '.join(finding.engines)}." if finding.engines else ""
    return (
        f"{finding.severity} {finding.rule}, {finding.where}: {finding.what}.{stops}\n"
        f"  {finding.way_out}. Known from {finding.source}."
    )


def refuse_errors(release: Release) -> Verdict:
    """Return what was found in a release that is to be uploaded; UserError that lists errors."""
    verdict = lint(release)
    if verdict.errors:
        lines = "\n".join(map(described, verdict.errors))
        raise UserError(f"{release.name} has errors, so nothing was uploaded:\n{lines}")
    return verdict
