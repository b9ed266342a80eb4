# Read by every shell that the gateway starts for an agent (bash --rcfile). The agent's own files play no part in it.
#
# Commands come in files, not as keystrokes: of any length and any bytes, without a line editor in between. The gateway types
# `__shell_load N; eval "$__shell_text"; __shell_end`, and before each prompt the shell reports, on the terminal, the number of the
# command that it ran last, its exit status, and the working directory.

__shell_dir=$AGENT_SHELL_COMMANDS
__shell_nonce=$AGENT_SHELL_NONCE
unset AGENT_SHELL_COMMANDS AGENT_SHELL_NONCE
__shell_number=0 __shell_status=0 __shell_text= __shell_ended=

# The status that is returned is what `$?` says in the command.
__shell_load() {
  __shell_number=$1
  IFS= read -r -d '' __shell_text <"$__shell_dir/$1"
  return "$__shell_status"
}

# What a script that is sourced puts before the prompt may stand in front of the report, and change `$?`, or in its place. An
# interrupt skips this.
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
