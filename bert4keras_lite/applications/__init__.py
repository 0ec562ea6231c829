"""Programs on top of the rest: the command line, the doctor of checkpoints, the server."""
