"""What lies in deploy/, as far as it can be run without its platforms."""
