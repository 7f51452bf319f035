package gateway

import "syscall"

// connectionsPerStream is how many connections there may be for each answer:
// players and pages keep some open that ask for nothing.
const connectionsPerStream = 4

// openFiles is how many files the process may have open; 0: not known.
func openFiles() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return uint64(r.Cur) // its type differs between systems
}

// boundConnections lowers a number of connections to a third of the files that
// the process may have open. Peers take up to half of them, and the rest is
// for the admin socket, the database and blocks.
func boundConnections(n int, files uint64) int {
	if third := files / 3; files > 0 && third < uint64(n) {
		return max(1, int(third))
	}
	return n
}
