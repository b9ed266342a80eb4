"""OpenAI's chat completions: parse a request body, and render the events of a run as chunks or as one completion."""
