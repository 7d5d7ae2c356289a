"""How Stanch is shipped, and a world to try it in; nothing here is imported by the product."""
