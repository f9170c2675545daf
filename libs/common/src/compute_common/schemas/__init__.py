"""Every record that crosses a service boundary."""
