"""What runs by the calendar: when a schedule's ticks come, and the jobs that they become."""
