package outbound

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// A name that resolves to a public address when it is checked and to loopback
// when it is dialled gains nothing: what is checked is what is dialled.
func TestEachAddressOfANameIsChecked(t *testing.T) {
	control := guard(Public)
	for address, ok := range map[string]bool{
		"93.184.215.14:443": true, "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443": true, "8.8.8.8:80": true,
		"127.0.0.1:443": false, "[::1]:443": false, "[::ffff:127.0.0.1]:443": false, "[::ffff:8.8.8.8]:443": true,
		"[fe80::1%eth0]:443": false, "10.1.2.3:443": false, "198.18.0.1:443": false, "240.0.0.1:443": false,
		"192.0.0.8:443": false, "[2001::1]:443": false, "[fec0::1]:443": false, "[100::1]:443": false,
		"/run/docker.sock": false, "": false, "example.org:443": false,
	} {
		if err := control("tcp4", address, nil); (err == nil) != ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, network := range []string{"unix", "udp4", "tcp", ""} {
		if err := control(network, "8.8.8.8:443", nil); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", network, err)
		}
	}
	some := dialer(Options{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).others.Control
	if err := some("tcp4", "10.1.2.3:443", nil); err != nil {
		t.Errorf("an address that was allowed: %v", err)
	}
	if err := some("tcp4", "127.0.0.1:443", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("another one: %v", err)
	}
}

// H57: a name that leads to the service at first and to loopback from then on: the
// service stands at 127.0.0.2, which is allowed here as if it were public.
func TestNameThatFlips(t *testing.T) {
	var served, trapped atomic.Int64
	service, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	_, port, err := net.SplitHostPort(service.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	trap, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	count := func(l net.Listener, n *atomic.Int64) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			c.Close()
		}
	}
	go count(service, &served)
	go count(trap, &trapped)
	c := New(Options{
		Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Limit: 20 * time.Second,
		Resolver: flipping(netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")),
	})
	defer c.CloseIdleConnections()
	for n := range 3 {
		_, err := c.Get("https://pins.example.org:" + port + "/")
		if refused := errors.Is(err, ErrRefused); refused != (n > 0) {
			t.Errorf("request %d: %v", n, err)
		}
	}
	if served.Load() != 1 || trapped.Load() != 0 {
		t.Errorf("%d connections to the service, %d to loopback", served.Load(), trapped.Load())
	}
}

// flipping resolves every name to one address the first time and to another
// from then on.
func flipping(first, then netip.Addr) *net.Resolver {
	var asked atomic.Int64
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			var size [2]byte
			if _, err := io.ReadFull(server, size[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(server, q); err != nil {
				return
			}
			a := answerTo(q, first)
			if isA(q) && asked.Add(1) > 1 {
				a = answerTo(q, then)
			}
			server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}()
		return client, nil
	}}
}

// question is where the question of a DNS query ends.
func question(q []byte) int {
	i := 12
	for q[i] != 0 {
		i += int(q[i]) + 1
	}
	return i + 5
}

func isA(q []byte) bool { return binary.BigEndian.Uint16(q[question(q)-4:]) == 1 }

// answerTo answers a DNS query for an IPv4 address, and no other.
func answerTo(q []byte, ip netip.Addr) []byte {
	a := append([]byte(nil), q[:question(q)]...)
	copy(a[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if isA(q) {
		a[7] = 1
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, ip.AsSlice()...)
	}
	return a
}
