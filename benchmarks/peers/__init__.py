"""Other programs, run beside mediacdn on the same bytes, with the settings that suit them best."""
