#!/bin/sh
# Start the center's node: start.sh COORDINATOR:PORT CA KEY CENTER_TOML
# RUNTIME_PORT (9094) and HEALTH (127.0.0.1:18191) may be set in the environment, where several nodes share a machine.
set -eu
[ $# -eq 4 ] || { echo "usage: $0 COORDINATOR:PORT CA KEY CENTER_TOML" >&2; exit 2; }
for file in "$2" "$3" "$4"; do
    [ -r "$file" ] || { echo "$file cannot be read; see README.md" >&2; exit 1; }
done
center=$(cd "$(dirname "$4")" && pwd)/$(basename "$4")
# No telemetry, no look for updates, and no installing of packages at run time.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec flower-supernode \
    --superlink "$1" --root-certificates "$2" --auth-supernode-private-key "$3" \
    --node-config "center-file=\"$center\"" \
    --host 127.0.0.1 --port "${RUNTIME_PORT:-9094}" --health-server-address "${HEALTH:-127.0.0.1:18191}"
