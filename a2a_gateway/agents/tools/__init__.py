"""What agents do things with: terminal, file editor, grep, glob, task list, delegation. `toolbox.Toolbox` is the way in."""
