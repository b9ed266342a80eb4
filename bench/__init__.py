"""Benchmark a real gateway process over HTTP against the scripted LLM, in ratios to the same work with the bare SDK."""
