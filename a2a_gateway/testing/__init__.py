"""What the demo, the tests and the benchmark stand on, shipped so that others can test their agents with it, too.

`scripted_llm` is an LLM server that says what a script tells it; `demo` is the script of the demo. No agent, no SDK in here.
"""
