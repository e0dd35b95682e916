"""The sections of a model card: a module for what each has to say, a template for how it looks.

Every function here is pure: a report and the siblings in, values for the templates out. It may
import what the card may, and `plots`, but not the card. The registry of methods, which imports
torch, is imported inside functions.
"""
