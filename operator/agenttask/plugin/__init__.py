"""The seam for plugins: protocols, hook specifications, loading and selection. Built-ins come through the same door."""
