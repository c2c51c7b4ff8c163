"""What a network is trained on: patches of raw volume with augmented labels."""
