"""The fifth stage: the model card as a pure function of a report and its siblings.

In come records, out come README.md, pictures and metadata, each number from a record. `sections`
has what it says, `plots` what it draws.
"""
