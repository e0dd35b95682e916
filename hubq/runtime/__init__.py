"""What reads the hubq format: it needs little but torch, since every repo carries a copy of it.

The modules here are joined into the one file that a repo carries, so they import nothing of hubq
but each other, and no two of them use a name for different things.
"""
