"""The scripted LLM of the demo, the tests and the benchmark; shipped so that users can test their own agents with it.

`scripted_llm` is an LLM server that answers as a script defines; `demo` is the script of the demo. Imports no SDK.
"""
