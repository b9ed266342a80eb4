"""The metered LLM: each attempt of an LLM call is paid for, its answer repaired and checked, its errors translated."""
