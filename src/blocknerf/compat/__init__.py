"""What the original documents name and nothing else here needs: their names lead to the parts that do the work."""
