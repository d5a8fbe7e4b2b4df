"""Names from the original documents that nothing else needs; they lead to the parts that do the work."""
