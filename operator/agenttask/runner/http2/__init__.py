"""HTTP/2 for the run's aiohttp sessions: a client middleware and a connector over `h2`, one connection for many requests."""
