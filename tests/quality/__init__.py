"""How much each lane's rounding costs, measured on the embedded model's real weights."""
