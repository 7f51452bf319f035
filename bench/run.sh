#!/bin/sh
# Measures musen beside Kubo and nginx, on loopback.   ./run.sh [ROUNDS]
# QUICK=1 tries everything once, in small. See README.md.
set -eu
cd "$(dirname "$0")"

if ! command -v wrk >/dev/null || ! command -v nginx >/dev/null && ! [ -x /usr/sbin/nginx ]; then
	root=
	[ "$(id -u)" = 0 ] || root=sudo
	$root apt-get update -qq
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light wrk
fi

mkdir -p bin
echo "building (Kubo takes minutes the first time)" >&2
(cd kubo && nice -n 10 go build -o ../bin/ github.com/ipfs/kubo/cmd/ipfs)
(cd age && go build -o ../bin/ filippo.io/age/cmd/age filippo.io/age/cmd/age-keygen)
(cd .. && go build -o bench/bin/musen ./cmd/musen)
go build -o bin/bench .

exec bin/bench ${QUICK:+-quick} ${1:+-rounds "$1"}
