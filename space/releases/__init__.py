"""Which released models there are and what their reports say.

In come an organization, repos and folders by name; out comes a `Listing` of `Released` models with
a sentence for each thing that can't be read. It may import hubq alone.
"""
