"""What is used of others that they do not offer, a module for each."""
