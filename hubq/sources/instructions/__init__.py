"""Instruction pairs from wherever a recipe names them, and what becomes of them as tokens.

In comes an adapter's `Lessons`; out come pairs, checked and counted, and on demand their tokens
with labels. What others wrote is read within bounds. It may import what other sources may.
"""
