"""The benchmark: a real gateway process, driven over HTTP against the scripted LLM, and the bare SDK beside it for ratios."""
