"""What was measured of an adapted checkpoint, beside the base and beside itself unadapted."""

import json
from collections.abc import Mapping
from pathlib import Path

from hubq.records.adaptation import Adaptation
from hubq.records.report import Assessment, Measured, Report
from hubq.records.run_folder import ADAPTER, MODEL


class AdaptedReport(Report):
    """The adapted model beside the 16-bit base; its plan's `repo` is where the adapted one goes."""

    adaptation: Adaptation
    unadapted: Measured  # the quantized checkpoint beside the 16-bit base
    gained: Measured  # the adapted model beside the quantized checkpoint, in pairs

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter is published, and not a whole model."""
        return self.adaptation.makes == "adapter"

    @property
    def files(self) -> Mapping[str, str]:
        """The files that are published: path in the repo -> sha256."""
        return self.adaptation.files

    @property
    def folder(self) -> str:
        """Where these lie, in run/adapted."""
        return f"{MODEL}/{ADAPTER}" if self.is_adapter else MODEL

    @property
    def linear_bits(self) -> float:
        """Stored bits a weight over the quantized linears, those of an adapter included."""
        return self.checkpoint.linear_bits + self.adaptation.added_bits

    @property
    def model_bits(self) -> float:
        """Stored bits a parameter over all that is loaded."""
        return 8 * self.weight_bytes / self.plan.parameters

    @property
    def weight_bytes(self) -> int:
        """What all weights that are loaded take on the disk."""
        base = self.checkpoint.weight_bytes if self.is_adapter else 0
        return base + self.adaptation.weight_bytes


def kind_of_report(values: object) -> type[Report] | type[Assessment]:
    """Tell by its keys which kind of record a JSON value is."""
    if isinstance(values, dict) and "subject" in values:
        return Assessment
    return AdaptedReport if isinstance(values, dict) and "adaptation" in values else Report


def load_report(path: Path) -> Report:
    """Read the report of a checkpoint, adapted or not; raise UserError where it is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        values = None  # which Report refuses
    return (AdaptedReport if kind_of_report(values) is AdaptedReport else Report).load(path)
