"""Our lm-eval tasks, which need no Hub: YAML definitions, and the reader of their data."""
