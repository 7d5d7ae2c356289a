"""How fast the way of an incident is, each figure beside a bare Temporal workflow's on the same server."""
