"""HTTP clients for delegations, and the one set of rules for their proxies."""
