"""The calls of other libraries, answered by everymask."""
