"""The program that turns AgentTasks into pods, and pods into status."""
