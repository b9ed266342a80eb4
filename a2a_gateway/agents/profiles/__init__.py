"""The catalogue of profiles, and the sources from which it is read. Knows no runs, requests or conversations.

The entry point is `catalogue`. Definitions have OpenHands' own file formats. `llm_environment` can be used before the SDK is
imported.
"""
