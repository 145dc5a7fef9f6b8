"""The command line: run and check AgentTasks on this machine, without a cluster."""
