"""The fifth stage: the model card as a pure function of a report and its siblings.

In come records, out come README.md, pictures and metadata, each number from a record. `sections`
has what it says, `plots` what it draws. jinja2, yaml and the registry of methods (torch) are
imported inside functions, so that a card's parts can be had without them.
"""
