"""Which agents there are: the catalogue of profiles, and the three sources that it is read from.

`environment` imports neither the SDK nor LiteLLM, so it can be read before they are loaded; `catalog` is the way in to all else.
Above it stands the composition root; below it the SDK's own file formats. It knows nothing of runs, requests or conversations.
"""
