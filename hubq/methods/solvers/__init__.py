"""What methods share: rounding column by column, fitting levels, clipping ranges, choosing widths.

In come weights and what calibration showed of their inputs; out come representations. It may import
`hubq.tensors` and the contract of methods.
"""
