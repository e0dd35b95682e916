"""The second stage: all pinned and counted, without reading a weight.

In comes a Recipe, out comes a Plan, or an error for what can't work: a model that contradicts its
config, a text that nobody has, a repo that isn't ours, bits that can't be reached. What needs
torch, a Hub or a GGUF file is imported inside functions, so that a recipe's mistakes are told at
once.
"""
