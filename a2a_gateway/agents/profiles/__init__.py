"""The catalogue of profiles, and the three sources from which it is read.

The entry point is `catalogue`. `llm_environment` imports neither the SDK nor LiteLLM, so it can be read before they are loaded.
This package reads the SDK's own file formats and knows nothing of runs, requests or conversations.
"""
