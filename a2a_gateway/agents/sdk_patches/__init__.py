"""Changes to OpenHands and LiteLLM in this process: one module each, with a test that fails when a name moves."""
