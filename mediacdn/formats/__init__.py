"""Binary formats: what their bytes must look like behind the signature. Pure; sniff asks it, and nothing else does."""
