"""What `hubq plan` tells beside the plan: the time, and what doesn't fit into a machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.machine.published import published

if TYPE_CHECKING:
    from hubq.records.plan import Plan
    from hubq.stages.lint.lint import Verdict
    from hubq.stages.plan.forecast import Forecast


class Outlook(NamedTuple):
    """A plan on a machine."""

    plan: "Plan"  # with the memory that it needs there
    disk: int  # bytes that the run folder takes at most
    forecast: "Forecast"
    by_blocks: str | None  # why models are measured block by block there; None: whole
    lacking: list[str]  # what doesn't fit, a sentence each
    verdict: "Verdict"  # which engines will load the result

    def as_json(self) -> dict[str, Any]:
        """Return it all as JSON values."""
        estimate = {"device": self.forecast.device, "seconds": self.forecast.stages}
        more = {"estimate": estimate, "disk": self.disk, "by_blocks": self.by_blocks}
        more["lint"] = self.verdict.as_json()
        return self.plan.model_dump(mode="json") | more | {"does_not_fit": self.lacking}


def outlook(plan: "Plan", run: Path, gpu: str | None, *, base_known: bool = False) -> Outlook:
    """Look at a plan on this machine, or beside a GPU that is elsewhere, of which a name is given.

    Where the base is known, the time is without its measurements. Raises UserError where no
    figures of that GPU are known.
    """
    from hubq.stages.evaluate.evaluate import why_by_blocks
    from hubq.stages.plan.forecast import forecast_for, forecast_here
    from hubq.stages.plan.shortages import (
        Free,
        by_blocks_on,
        disk_needed,
        free_here,
        on_gpu,
        shortages,
    )
    from hubq.stages.plan.will_load import verdict_on

    if gpu is None:
        lacking = shortages(plan, free_here(run))
        here = forecast_here(plan, base_known=base_known), why_by_blocks(plan), lacking
        return Outlook(plan, disk_needed(plan), *here, verdict_on(plan))
    known = published(gpu)
    there = on_gpu(plan, known)
    lacking = shortages(there, Free(int(known.memory), None, None))
    return Outlook(
        there,
        disk_needed(plan),
        forecast_for(plan, known, base_known=base_known),
        by_blocks_on(plan, known),
        lacking,
        verdict_on(plan),
    )
