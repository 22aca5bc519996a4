#!/bin/sh
# Start the coordinator's link: start.sh KEYS STATE
#   KEYS   folder with server.pem, server.key and ca.crt
#   STATE  folder for the database, which keeps registered centers over a restart
# HOST (0.0.0.0), PORT (8443) and HEALTH (127.0.0.1:18099) may be set in the environment.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 KEYS STATE" >&2; exit 2; }
for file in server.pem server.key ca.crt; do
    [ -r "$1/$file" ] || { echo "$1/$file is missing; see README.md, step 2" >&2; exit 1; }
done
umask 077
mkdir -p "$2"
# No telemetry, no look for updates, and no installing of packages at run time.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
export FLWR_HOME="${FLWR_HOME:-$2/flwr}"
exec flower-superlink \
    --host "${HOST:-0.0.0.0}" --port "${PORT:-8443}" \
    --ssl-certfile "$1/server.pem" --ssl-keyfile "$1/server.key" --ssl-ca-certfile "$1/ca.crt" \
    --enable-supernode-auth --database "$2/state.db" \
    --isolation subprocess --disable-runtime-dependency-installation \
    --health-server-address "${HEALTH:-127.0.0.1:18099}"
