"""What can be made of media: recipes by `code@version`, their arguments read in one place, and the fingerprints by which equal work is found. No I/O."""
