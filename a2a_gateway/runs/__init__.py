"""The core: what a run is, whether it may start, and how it is led to its end.

Knows neither OpenAI's format, FastAPI, OpenHands nor SQL; `ports` declares what it needs of them. Where to begin reading:

    model, events, messages, ports    the vocabulary
    service                           the way of a request: opening, then leading
    run_life, live                    what a live run may do next, and who reads it
    admission, budget, meter          what limits a run, and the money of one LLM call
    deduplication, retry_rule         what happens to a repeated request
"""
