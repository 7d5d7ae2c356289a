"""The demo world: a shop that truly breaks, what it runs on, and what watches it.

Every program here is a process of its own; the product meets them over the network only.
"""
