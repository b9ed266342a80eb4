"""The machine: shells, processes, sockets, files, clocks. Knows no OpenHands and no LLM."""
