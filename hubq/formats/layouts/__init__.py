"""How representations lie in files, as far as formats share it, and the reader that repos carry.

In come representations, out come schemes and tensors by name; it may import `hubq.tensors` and
`hubq.runtime`.
"""
