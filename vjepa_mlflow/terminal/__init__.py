"""What a terminal shows: bars, messages, results."""
