#!/usr/bin/env bash
# Starts a compose file for real, under a name of its own: all healthy, a conversation over TLS, down, up, and the message
# that waited is fetched. Then everything is removed. It needs an engine with compose, and a Python that has the SDK:
#   docker/smoke.sh [compose.yaml | compose.cluster.yaml]     PYTHON=.venv/bin/python
# The image is built unless there is one: `docker compose build` after a change.
set -euo pipefail
cd "$(dirname "$0")/.."
file=docker/${1:-compose.yaml}
python=${PYTHON:-.venv/bin/python}
export RESTANTE_DOMAIN=localhost
export RESTANTE_HTTP_PORT=${RESTANTE_HTTP_PORT:-8080} RESTANTE_HTTPS_PORT=${RESTANTE_HTTPS_PORT:-8443}
url=https://localhost:$RESTANTE_HTTPS_PORT

if command -v docker >/dev/null && docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
else
    compose=(docker-compose)
fi
compose+=(-p restante-smoke -f "$file")

folder=$(mktemp -d)
# shellcheck disable=SC2329 # the trap runs it
remove() {
    local status=$?
    [ $status -eq 0 ] || "${compose[@]}" logs --tail 30 || true
    "${compose[@]}" down --volumes --timeout 20 || true
    rm -r "$folder"
    exit $status
}
trap remove EXIT

# A certificate of Caddy's own is what it has without a domain; only these clients trust it.
trust() {
    local place=/data/caddy/pki/authorities/local/root.crt
    for _ in $(seq 50); do
        if "${compose[@]}" exec -T caddy cat "$place" >"$folder/root.crt" 2>/dev/null; then return; fi
        sleep 0.2
    done
    echo "Caddy has no certificate" >&2
    return 1
}

"${compose[@]}" up -d --wait
trust
SSL_CERT_FILE=$folder/root.crt "$python" docker/smoke.py talk "$url" "$folder"
echo "ok      conversation over $url"
"${compose[@]}" down --timeout 20
"${compose[@]}" up -d --wait
trust
SSL_CERT_FILE=$folder/root.crt "$python" docker/smoke.py fetch "$url" "$folder"
echo "ok      the message survived down and up"
"${compose[@]}" ps --format 'table {{.Service}}\t{{.Status}}'
