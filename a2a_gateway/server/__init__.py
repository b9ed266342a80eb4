"""HTTP: the routers, authentication, streaming, and the composition root. The only package that imports FastAPI.

app, routers                        the FastAPI application and its endpoints, one router per door
dependencies, auth, origin, tokens  who sends a request: a key, a run, a peer
run_door, run_response              from a request for a run to bytes on the socket, on any wire
gateway, upkeep                     the composition root: every part of a gateway, put together; what it does periodically
in_process                          how agents call a gateway that an application serves
process, uvicorn_server             `a2a-gateway serve`: signals, logs, the listening socket
http_protocol                       one connection: its limits, its framing, a client that leaves
"""

from a2a_gateway.host.supported_systems import require_supported_system

require_supported_system()
