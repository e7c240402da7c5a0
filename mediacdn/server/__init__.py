"""What uvicorn's HTTP protocol lacks, as subclasses of it."""
