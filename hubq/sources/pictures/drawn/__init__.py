"""Pictures that a seed draws, each with a question whose answer is in the picture.

In come a seed and a count; out come pictures of 56 x 56 pixels, the same bytes on every machine, as
all is drawn here pixel by pixel, with letters of its own. It may import nothing of hubq; Pillow
is imported inside functions.
"""
