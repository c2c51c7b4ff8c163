"""cleftnet: synaptic cleft detection in volume electron microscopy (Liu & Ji, CleftNet)."""
