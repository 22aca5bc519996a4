#!/bin/sh
# Make the center's key: key.sh FOLDER NAME. FOLDER/NAME stays here; FOLDER/NAME.pub goes to the coordinator.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 FOLDER NAME" >&2; exit 2; }
umask 077
mkdir -p "$1"
ssh-keygen -q -t ecdsa -b 384 -N "" -C "$2" -f "$1/$2"
