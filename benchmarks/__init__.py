"""What is claimed about speed, as programs that anyone can run."""
