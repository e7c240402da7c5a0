"""The cache between readers and storages."""
