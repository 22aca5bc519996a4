#!/bin/sh
# Make a CA and a server certificate for a trial: certificates.sh FOLDER NAME-OR-ADDRESS...
# A certificate without subject alternative names is refused by Flower's clients, so each name and address goes in there.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 FOLDER NAME-OR-ADDRESS..." >&2; exit 2; }
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"
[ ! -e server.key ] || { echo "$folder/server.key exists; choose a new folder" >&2; exit 1; }

names=
for name in "$@"; do
    case $name in
        *[!0-9.]*) names="$names,DNS:$name" ;;
        *) names="$names,IP:$name" ;;
    esac
done

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 365 -sha384 \
    -subj "/CN=ramw-fed trial CA" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -sha384 \
    -subj "/CN=$1" -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "${names#,}" > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -sha384 \
    -extfile server.ext -out server.pem 2>/dev/null
rm server.csr server.ext
chmod 644 ca.crt server.pem
