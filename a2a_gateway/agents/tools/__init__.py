"""The tools of agents: terminal, file editor, grep, glob, task list, delegation. The entry point is `toolbox.LocalToolbox`."""
