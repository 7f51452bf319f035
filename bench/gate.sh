#!/bin/sh
# Measures refusals over HTTP, beside nginx, and decisions, beside go-jose.
# ./gate.sh [-rounds N] [-seconds N]   See README.md.
set -eu
cd "$(dirname "$0")"

if ! command -v wrk >/dev/null || ! command -v nginx >/dev/null && ! [ -x /usr/sbin/nginx ]; then
	root=
	[ "$(id -u)" = 0 ] || root=sudo
	$root apt-get update -qq
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light wrk
fi

mkdir -p bin
(cd .. && go build -o bench/bin/musen ./cmd/musen)
go build -o bin/bench .

bin/bench gate "$@"
echo
(cd .. && go test -run '^$' -bench 'Gate|PlainJWT' -benchtime 20000x -count 5 ./policy)
