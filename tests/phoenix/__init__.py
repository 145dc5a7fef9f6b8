"""Phoenix, a real OTLP server with a store and a query API, for tests: installed on demand, run without a network."""
