"""The front door: alerts in, decisions in, the console out.

It speaks to the ledger; only the dispatcher and what it is served with speak to Temporal.
"""
