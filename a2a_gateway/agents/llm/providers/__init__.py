"""Read what LLM providers send, before LiteLLM does: streams, whole answers, refusals. Repairs deviations. Pure."""
