"""Data that comes with the package: small samples for examples and tests."""
