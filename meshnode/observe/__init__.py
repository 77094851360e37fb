"""What a node lets its operator see: logs, metrics. A leaf: any I/O room may use it; it uses none."""
