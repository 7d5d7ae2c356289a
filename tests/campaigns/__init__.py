"""Campaigns: what is tried thousands of times, with a table of what was reached."""
