"""Jobs at work: what rings for them, who runs them, and when a failed one is tried again. The truth of them is the catalog's table."""
