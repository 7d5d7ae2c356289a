"""The hands: everything that touches the world, one folder per provider, and the activities that use them."""
