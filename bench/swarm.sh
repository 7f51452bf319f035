#!/bin/sh
# Measures an origin with peers that hold copies of its segments, beside IPFS
# Cluster with its Kubos: processes of their own, on loopback and the real disk.
# ./swarm.sh [-quick] [FLAGS]   See README.md, and bin/bench swarm -help.
set -eu
cd "$(dirname "$0")"
mkdir -p bin

cluster=yes
case "$*" in
*-mode*cluster*) ;;
*-mode*) cluster= ;;
esac
if [ "$cluster" ]; then
	echo "building (Kubo and IPFS Cluster take minutes the first time)" >&2
	(cd kubo && nice -n 10 go build -o ../bin/ github.com/ipfs/kubo/cmd/ipfs)
	(cd cluster && nice -n 10 go build -o ../bin/ github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-service)
fi
(cd .. && go build -o bench/bin/musen ./cmd/musen)
go build -o bin/bench .

exec bin/bench swarm "$@"
