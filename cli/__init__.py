"""The terminal: one module per verb, imported only when its verb is used. Speaks HTTP to the gateway."""
