"""What engines make of models that hubq writes, compared with transformers: make engines

Each engine lives in an environment of its own (`environments.py`), in which one of the files
`answer_*.py` answers what it is asked. `cases.py` lists the models, all made of one (`padded.py`);
`comparison.py` tells by numbers whether answers are the same. `__main__.py` goes through them all
and writes hubq/stages/lint/engines.json, which cards, plans and lint quote.
"""
