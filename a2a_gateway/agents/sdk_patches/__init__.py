"""Changes to OpenHands, LiteLLM and httpx in this process: one module each, with a test that fails if a version moves a name."""
