"""How work is done: threads, processes, turns, shares, interrupts."""
