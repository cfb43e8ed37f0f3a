"""What the command line does, one file per kind of command; imported only when it is needed."""
