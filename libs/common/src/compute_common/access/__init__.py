"""Who may call a service: keys, what each may do, how often."""
