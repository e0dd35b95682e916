"""Our lm-eval tasks, which need no Hub: YAML definitions, and the readers of their data.

In come files of a wheel or a data set; out come items as lm-eval wants them. It imports what texts
do. The scorers of texts are imported inside functions: most tasks have none.
"""
