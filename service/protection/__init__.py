"""Who may do what, how often, and that a repeated request is done once."""
