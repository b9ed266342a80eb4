#!/bin/sh
# Use a gateway with curl alone: list its agents, then ask one and stream the answer.
#
#   export A2A_BASE_URL=http://127.0.0.1:8420/v1 A2A_API_KEY=...
#   examples/curl.sh openhands_default "Write a greeting."
set -eu

: "${A2A_BASE_URL:?set it to the gateway, such as http://127.0.0.1:8420/v1}"
: "${A2A_API_KEY:?set it to a key of: a2a-gateway keys create NAME}"

# The key goes through a file descriptor: as an argument, every user of the machine could read it in the process list.
ask() {
  curl --silent --show-error --fail-with-body --no-buffer --config - "$@" <<CONFIG
header = "Authorization: Bearer ${A2A_API_KEY}"
CONFIG
}

models=$(ask "${A2A_BASE_URL}/models")
model=${1:-$(printf '%s' "${models}" | grep -o '"id": *"[^"]*"' | head -n 1 | cut -d '"' -f 4)}
[ -n "${model}" ] || { echo "the gateway serves no agent yet" >&2; exit 1; }
echo "# asking ${model}"

task=$(printf '%s' "${2:-Introduce yourself in one sentence.}" | sed 's/\\/\\\\/g; s/"/\\"/g' | tr '\n' ' ')
ask "${A2A_BASE_URL}/chat/completions" \
  --dump-header /dev/stderr \
  --header "Content-Type: application/json" \
  --header "X-A2A-Budget-USD: 1.00" \
  --data "{\"model\": \"${model}\", \"stream\": true, \"stream_options\": {\"include_usage\": true},
           \"messages\": [{\"role\": \"user\", \"content\": \"${task}\"}]}"
