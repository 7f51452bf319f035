#!/bin/sh
# Measures an origin with peers that hold copies of its segments: processes of
# their own, on loopback and the real disk.   ./swarm.sh [-quick] [FLAGS]
# See README.md, and bin/bench swarm -help.
set -eu
cd "$(dirname "$0")"
mkdir -p bin
(cd .. && go build -o bench/bin/musen ./cmd/musen)
go build -o bin/bench .
exec bin/bench swarm "$@"
