"""Reports side by side: where they lie, what each model takes and keeps, which are on the front.

In come reports of one base, out come a comparison and its tables; noise makes no winner.
huggingface_hub is imported inside functions: reports in folders need no Hub.
"""
