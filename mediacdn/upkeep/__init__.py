"""The care of objects at rest: moved from one storage to another, promoted from where they landed, read through for damage, and counted."""
