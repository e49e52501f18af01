"""Clock skew of single processes: each mechanism in a module of its own."""
