"""The program in a task's pod, and behind `agenttask run`: it runs the steps of one task document and leaves a report."""
