"""What was measured of an adapted checkpoint, beside the base and beside itself unadapted."""

from hubq.records.adaptation import Adaptation
from hubq.records.report import Measured, Report


class AdaptedReport(Report):
    """The adapted model beside the 16-bit base; its plan's `repo` is where the adapted one goes."""

    adaptation: Adaptation
    unadapted: Measured  # the quantized checkpoint beside the 16-bit base
    gained: Measured  # the adapted model beside the quantized checkpoint, in pairs
