#!/usr/bin/env bash
# Checks the files of this folder with every tool that is present, and names the others: `make docker-check`.
# Nothing is built or started.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
absent=()

check() { # NAME COMMAND...: run it and say how it went
    local name=$1
    shift
    if "$@"; then echo "ok      $name"; else
        echo "FAILED  $name"
        status=1
    fi
}

present() { # COMMAND: say whether it is there, and note it if it is not
    command -v "$1" >/dev/null || { absent+=("$1") && return 1; }
}

# shellcheck disable=SC2329 # check runs it
exposure() { # UNIT: fail above 1.5 of 10, and then show why
    local report
    report=$(systemd-analyze security --offline=yes --threshold=15 --no-pager "$1") || { echo "$report" && return 1; }
}

compose=()
if command -v docker >/dev/null && docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    absent+=("docker compose")
fi

present hadolint && check "hadolint Dockerfile" hadolint docker/Dockerfile
for file in docker/compose*.yaml; do
    if command -v check-jsonschema >/dev/null; then
        check "schema of ${file#docker/}" check-jsonschema --builtin-schema vendor.compose-spec "$file"
    fi
    [ ${#compose[@]} -eq 0 ] || check "compose config ${file#docker/}" "${compose[@]}" -f "$file" config -q
done
present check-jsonschema || true

if present shellcheck; then
    for file in docker/*.sh; do check "shellcheck ${file#docker/}" shellcheck "$file"; done
fi
if present caddy; then
    check "caddy validate" env RESTANTE_DOMAIN=localhost caddy validate --config docker/Caddyfile --adapter caddyfile
fi

if present systemd-analyze; then
    # The program is not where the unit says on a machine that only checks it.
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    sed "s|^ExecStart=[^ ]*|ExecStart=$(command -v true)|" docker/restante.service >"$folder/restante.service"
    check "systemd-analyze verify" systemd-analyze verify "$folder/restante.service"
    check "systemd-analyze security" exposure "$folder/restante.service"
fi

if compgen -G '.github/workflows/*.y*ml' >/dev/null; then
    present zizmor && check "zizmor" zizmor --offline .github/workflows
fi

for name in ${absent[@]+"${absent[@]}"}; do echo "absent  $name: what it checks was not checked"; done
exit $status
