"""A verb a module, each readable top to bottom in the order in which things happen."""
