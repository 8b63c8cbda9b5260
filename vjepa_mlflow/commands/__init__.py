"""What a command does, top to bottom: one module a command."""
