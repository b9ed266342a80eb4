"""What agents do things with: terminal, file editor, grep, glob, task list, delegation. `toolbox.LocalToolbox` is the way in."""
