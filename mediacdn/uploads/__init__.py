"""Uploads in more than one request, and past us: sessions that survive connections, processes and nodes. All end in ingest."""
