"""What only a GPU can show, as one script: make gpu

Each check is a process of its own, so that what one of them breaks or keeps of the GPU is gone with
it, and so that it can be stopped. It prints what it finds, row by row. `__main__.py` runs them and
prints the table; `checks.py` lists them; `bundle.py` makes what a machine without a network needs.
"""
