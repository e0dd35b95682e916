"""Records: what a recipe says, a plan, a checkpoint, a report; and how each is written and named.

Every stage takes and gives these, so that no stage needs to import another for them. They hold no
verbs, and may import `hubq.errors` and `hubq.machine` alone.
"""
