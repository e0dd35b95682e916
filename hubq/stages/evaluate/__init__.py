"""The fourth stage: a model measured beside its base, each in fresh processes, items in pairs.

In come a Plan and a Checkpoint, or any two models; out comes a Report or an Assessment. Processes
at work import torch and lm-eval, the one that asks them does not.
"""
