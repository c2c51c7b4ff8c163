"""How a network learns: one loop, its state, its log, validation of whole regions, one process or several."""
