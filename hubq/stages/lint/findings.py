"""The shape of a rule and of what it finds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from hubq.errors import UserError
from hubq.stages.lint.release import Release

TRANSFORMERS, VLLM, SGLANG, LLAMA_CPP = ENGINES = ("transformers", "vLLM", "SGLang", "llama.cpp")
Severity = Literal["error", "warning", "note"]


class Found(NamedTuple):
    """One place that breaks a rule."""

    where: str  # a file, or a module
    what: str
    way_out: str
    fix: Mapping[str, bytes] | None = None  # new contents of small files that mend it
    engines: tuple[str, ...] | None = None  # that are stopped, where not all of the rule's are


@dataclass(frozen=True)
class Rule:
    """One rule: a small function with what it means, and where that is known from.

    An error: an engine that reads the format fails or answers garbage, or the Hub refuses the repo.
    A warning: something is missing or may do harm. A note: an engine never read the format.
    """

    look: Callable[[Release], Iterator[Found]]
    severity: Severity
    source: str
    engines: tuple[str, ...] = ()  # that don't load what breaks it

    @property
    def name(self) -> str:
        """The function's name, as it is shown."""
        return self.look.__name__.replace("_", "-")

    @property
    def title(self) -> str:
        """What the function looks for, in a sentence."""
        return (self.look.__doc__ or "").partition("\n")[0]


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule, with all that is known about it."""

    rule: str
    severity: Severity
    engines: tuple[str, ...]
    where: str
    what: str
    way_out: str
    source: str
    fix: Mapping[str, bytes] | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, object]:
        """Return it as JSON values; of a fix, the names of the files."""
        values = {name: each for name, each in vars(self).items() if name != "fix"}
        return values | {"engines": list(self.engines), "fixes": sorted(self.fix or ())}


def findings(rule: Rule, release: Release) -> Iterator[Finding]:
    """Apply a rule; settings that can't be read are a finding of it too."""
    try:
        found = list(rule.look(release))
    except UserError as error:
        way_out = "correct the release by hand, then lint it again"
        found = [Found(release.name, str(error), way_out)]
    for each in found:
        yield Finding(
            rule=rule.name,
            severity=rule.severity,
            engines=rule.engines if each.engines is None else each.engines,
            where=each.where,
            what=each.what,
            way_out=each.way_out,
            source=rule.source,
            fix=each.fix,
        )
