"""The first stage: what somebody wants, read from YAML and checked, all mistakes told at once.

In comes a file, out come a Recipe, its JSON Schema and its text for a card. It asks the registries
of methods and formats what they take.
"""
