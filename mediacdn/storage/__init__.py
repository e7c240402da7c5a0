"""Storages around storages: placement and the wrappers that are themselves Storage."""
