"""The C++ core without Python: on other processors, under emulation."""
