"""What a running process shows: logs, metrics, health, traces and progress."""
