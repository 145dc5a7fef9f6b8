"""What stands between a step and an LLM client, each a client around a client: fallback, breaker, retry, limits, prices.

They are put together in `runner/models.py`, and know nothing of the client inside but its protocol.
"""
