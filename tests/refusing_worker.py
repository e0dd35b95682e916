"""A worker that refuses its job at once: `python -m refusing_worker JOB`, for want of a network."""

import json

if __name__ == "__main__":
    print(json.dumps({"refused": "the Hub can't be reached", "passes": True}))
