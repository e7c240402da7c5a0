"""Warm child processes in which plugins run decoders on untrusted bytes: what a decoder can break, read or use up ends at its child."""
