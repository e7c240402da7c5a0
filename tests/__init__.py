"""The tests. This file is here because a package that REDbot needs installs a `tests` of its own, which would be found instead of a folder without one."""
