package gateway

import (
	"net"
	"syscall"
)

// tcpNotSentLowat is TCP_NOTSENT_LOWAT of linux/tcp.h, on every architecture.
const tcpNotSentLowat = 25

// limitUnsent bounds what the system holds for a client that has not asked for
// it yet. Without it a slow client makes no progress that a deadline could see
// until it has taken a third of several megabytes, and a stream that is cut
// would be heard on for as long.
func limitUnsent(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // the connection is gone
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent)
	})
}
