"""A real S3 server that checks signatures: versitygw, built from its Go module."""
