"""The first stage: what somebody wants, read from YAML and checked, all mistakes told at once.

In comes a file, out come a Recipe, its JSON Schema and its text for a card. It asks the registries
of methods and formats what they take. The registries, which import torch, and yaml are imported
inside functions: the schema of a recipe's other parts needs neither.
"""
