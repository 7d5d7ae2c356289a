"""The law: who may decide what, sealed plans, signed decisions. Pure: time and keys come as arguments."""
