"""Verify a release: every check applied, and what comes of them all."""

from dataclasses import dataclass

from hubq.stages.verify import base_checks, card_checks, file_checks, weight_checks
from hubq.stages.verify.findings import Check, Finding, applied
from hubq.stages.verify.gather import Subject

CHECKS: tuple[Check, ...] = (
    file_checks.attested_files,
    file_checks.measured_files,
    file_checks.signature,
    file_checks.attestation,
    file_checks.records,
    card_checks.card,
    card_checks.card_metadata,
    weight_checks.sizes,
    weight_checks.bits,
    weight_checks.parameters,
    base_checks.base,
    base_checks.base_license,
)


@dataclass(frozen=True)
class Verification:
    """What the checks found in a release."""

    release: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that say that something is not as it should be."""
        return tuple(each for each in self.findings if each.status == "failed")

    def as_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        checks = [each._asdict() for each in self.findings]
        return {"release": self.release, "failed": len(self.failed), "checks": checks}


def verify(subject: Subject) -> Verification:
    """Apply all checks to a release."""
    findings = tuple(applied(check, subject) for check in CHECKS)
    return Verification(subject.release.name, findings)
