"""The words: models, enums, errors and names. Imports nothing of ours; no clock, no I/O, no randomness."""
