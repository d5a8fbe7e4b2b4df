"""Where the program runs: threads, processes, signals."""
