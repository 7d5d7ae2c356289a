"""The steps from one schema to the next. They are never changed once released, only followed by another."""
