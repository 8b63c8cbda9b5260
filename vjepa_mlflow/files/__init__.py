"""What lies on disk: whose it is, what is temporary, what can be made again."""
