"""The core: what a run is, whether it may start, and how it is led to its end.

Knows neither OpenAI's format, FastAPI, OpenHands nor SQL; declares in `ports` what it needs of them.
"""
