"""The `hash` backbone: a hash grid with small networks, learned in minutes."""
