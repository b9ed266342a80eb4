"""OpenAI's chat completions: a request body to a run request, and the events of a run to chunks or to one completion."""
