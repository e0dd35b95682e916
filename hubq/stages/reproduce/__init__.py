"""The stage that makes a release again from what its repo says, and tells how far apart both are.

In comes a repo of anybody, whose records are checked before anything is done by them, out comes a
Reproduction. A run folder holds what is made again, so a kill costs no more than in any run.
"""
