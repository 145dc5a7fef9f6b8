"""Traces: names, deterministic ids, and the pipeline that exports them. Without an endpoint nothing here imports an SDK."""
