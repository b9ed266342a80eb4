"""The wire formats, pure: bytes and headers to domain values (`parse_*`) and back (`render_*`, `encode_*`).

Above: `server`, which moves the bytes. Below: `runs` and the error tree. Nothing here imports FastAPI, OpenHands or SQL, or uses
a clock or the network. Each wire has a folder, and implements `presenter`; wires never import one another. Shared by all:

    presenter         the Protocol of a wire                 request_body      JSON, delegation context, fingerprint
    headers           response headers                       errors            GatewayError -> status, headers, body
    models, run_view  /v1/models, /v1/runs                   run_events, sse   events <-> text/event-stream
    outcome, usage    how a run ended, what it cost          schemas, examples for the OpenAPI document
"""
