"""Records: tables, migrations and one file of queries per noun."""
