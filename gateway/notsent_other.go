//go:build !linux

package gateway

import "net"

// limitUnsent bounds what the system holds for a slow client, by its whole
// buffer where it cannot tell what was sent.
func limitUnsent(c *net.TCPConn) {
	_ = c.SetWriteBuffer(maxUnsent) // the connection may be gone
}
