"""The fourth stage: a model measured beside its base, each in fresh processes, items in pairs.

In come a Plan and a Checkpoint, or any two models; out comes a Report or an Assessment. Processes
at work import torch and lm-eval, inside functions: the one that asks imports the same files without
them.
"""
