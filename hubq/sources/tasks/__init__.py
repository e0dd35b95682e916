"""Our lm-eval tasks, which need no Hub: YAML definitions, and the readers of their data.

In come files of a wheel or a data set; out come items as lm-eval wants them. It may import what
other sources may. The scorers of texts are imported inside functions: most tasks have none.
"""
