# Tells a user that an analysis is complete:  sh emit.sh demo
set -eu
curl --silent --show-error --fail-with-body --max-time 10 \
  -H 'content-type: application/json' -H "x-api-key: ${API_KEY:-}" \
  -d "{\"user\": \"${1:-demo}\", \"event\": \"analysis:completed\", \"data\": {\"interviewId\": \"42\", \"score\": 0.75}}" \
  "${SOCKRING_URL:-http://localhost:8080}/api/v1/websocket/emit"
echo
