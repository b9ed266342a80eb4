"""One call of an agent at another endpoint: the request, its streamed reply, its failures. Used by the tool and by gateways."""
