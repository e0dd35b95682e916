"""The pipeline, a folder a stage, in this order; converting and comparing stand beside it.

A stage takes records and gives one, saved last; its verb is in the file that is named like it. Each
may import those before it in this order: recipe, plan, quantize, convert, evaluate, compare, card,
publish; and all floors below.
"""
