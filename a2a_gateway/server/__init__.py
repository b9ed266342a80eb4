"""The HTTP door: routes, authentication, streaming, and the composition root. The only package that speaks FastAPI."""
