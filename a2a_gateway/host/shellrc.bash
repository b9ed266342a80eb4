# Read by every shell that the gateway starts for an agent (bash --rcfile), in place of the agent's own files.
#
# Commands are read from files, not from keystrokes, so they may have any length and any bytes. The gateway types
# `__shell_load N; eval "$__shell_text"; __shell_end`. Before each prompt, the shell reports on the terminal the number of its last
# command, the exit status, and the working directory.

__shell_dir=$AGENT_SHELL_COMMANDS
__shell_nonce=$AGENT_SHELL_NONCE
unset AGENT_SHELL_COMMANDS AGENT_SHELL_NONCE
__shell_number=0 __shell_status=0 __shell_text= __shell_ended=

# The returned status becomes the value of `$?` in the command.
__shell_load() {
  __shell_number=$1
  IFS= read -r -d '' __shell_text <"$__shell_dir/$1"
  return "$__shell_status"
}

# A script that the agent sources may change PROMPT_COMMAND: add a command before the report, which changes `$?`, or replace the
# report. So the status is recorded here, and the report is put back. An interrupt skips this function.
__shell_end() {
  __shell_status=$? __shell_ended=1
  [[ ${PROMPT_COMMAND[*]-} == *__shell_report* ]] || PROMPT_COMMAND=__shell_report
  return "$__shell_status"
}

__shell_report() {
  local status=$?
  [[ $__shell_ended ]] || __shell_status=$status
  __shell_ended=
  printf '\036%s;%s;%s;%s\036' "$__shell_nonce" "$__shell_number" "$__shell_status" "$PWD" >/dev/tty
}

PS1= PS2=
PROMPT_COMMAND=__shell_report
set +o history +H
unset HISTFILE MAILCHECK
