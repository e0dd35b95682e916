"""Pictures that a model is asked about: read from files of strangers, or drawn from a seed.

In come a file's bytes or a seed; out come pictures of 8-bit RGB, in `drawn/` with a question about
each. It may import the errors; Pillow and numpy are imported inside functions.
"""
