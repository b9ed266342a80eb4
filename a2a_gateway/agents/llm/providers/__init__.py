"""Parse the answers of LLM providers before LiteLLM does, and repair deviations: streams, whole answers, refusals. Pure."""
