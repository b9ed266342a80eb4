"""The wire format, pure: bytes and headers to domain values (`parse_*`) and back (`render_*`, `encode_*`).

Above: `server`, which moves the bytes. Below: `runs` and the error tree. Knows OpenAI's format and the `X-A2A-*` fields; must not
know FastAPI, OpenHands, SQL, clocks or the network. Import the modules by name:

    openai_request    body and headers -> RunRequest         openai_response   events and outcomes -> chunks, completion
    headers           response headers                       errors            GatewayError -> status, headers, body
    models, runs      /v1/models, /v1/runs                   sse               events <-> text/event-stream
"""
