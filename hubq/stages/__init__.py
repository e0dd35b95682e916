"""The pipeline, a folder a stage; converting and comparing stand beside it.

In come records, out comes one, saved last; a stage's verb is in the file that is named like it. A
stage may import those before it in this order: recipe, lint, plan, quantize, convert, adapt,
evaluate, compare, card, publish, watch; and all floors below.
"""
