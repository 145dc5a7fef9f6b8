"""The runner's side of the gateway (api/gateway.py): a client over all replicas, and what a run keeps and tells through it.

Nothing here is needed by a short task whose output fits its termination message: aiohttp is imported with the first request.
"""
