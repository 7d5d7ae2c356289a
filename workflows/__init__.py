"""The order: what happens in which order, and what if it fails; deterministic, and never how."""
