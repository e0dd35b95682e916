"""Which engines load a release and why not, whoever made it, by rules with their sources.

In comes a folder, a repo at a commit, a run or a plan, gathered into a `Release`: its list of
files, its headers and its small files, never the bytes of its weights. `table` has the rules, one
small function each; out come findings, and new contents of small files where that mends them.
huggingface_hub is imported inside functions, so that the rules are there without it.
"""
