package cmd_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"golang.org/x/time/rate"
)

// songRate is how fast the long song is heard, in bytes a second: a few times
// what it plays at, so that a stream which is not cut within the seconds that
// were promised is found out, not merely late.
const songRate = 1 << 20

// A paced listener takes a stream no faster than a player does.
type paced struct {
	body  io.Reader
	limit *rate.Limiter
}

func (p paced) Read(b []byte) (int, error) {
	n, err := p.body.Read(b[:min(len(b), p.limit.Burst())])
	if n > 0 {
		_ = p.limit.WaitN(context.Background(), n)
	}
	return n, err
}

// tuneIn begins to hear a URL; small is how many bytes the system may hold for it.
func tuneIn(t *testing.T, url, token string) *http.Response {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetReadBuffer(64 << 10)
		}
		return c, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// P18: what ends the right to listen ends what plays, and nobody else's music.
func TestEndedInTheMiddleOfASong(t *testing.T) {
	t.Parallel()
	r := startRadio(t)
	song := r.add(longSong(t))
	source, err := os.ReadFile(song.source)
	if err != nil {
		t.Fatal(err)
	}
	url := r.node.ready.Public + "/listen/" + song.CID
	pace := rate.NewLimiter(songRate/4, 64<<10)
	other := hearAll(tuneIn(t, url, r.token("bob")), pace)
	for _, c := range []struct {
		name       string
		url, token string
		end        []string
		status     int
	}{
		{"token", url, r.token("ann"), []string{"token", "revoke", "--subject", "ann"}, 401},
		{"link", r.link(song, "eve"), "", []string{"token", "revoke", "--subject", "eve"}, 401},
		{"segment", url, r.token("joe"), []string{"remove", song.CID}, 410},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "segment" {
				pace.SetLimit(rate.Inf)
				if all := <-other; !bytes.Equal(all, source) { // revoking others did not reach it
					t.Errorf("another listener heard %d of %d bytes", len(all), len(source))
				}
			}
			resp := tuneIn(t, c.url, c.token)
			body := paced{resp.Body, rate.NewLimiter(songRate, 64<<10)}
			heard := make([]byte, 1<<20)
			if _, err := io.ReadFull(body, heard); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("status %s, %v", resp.Status, err)
			}
			(&radio{t: t, home: r.home}).musen(c.end...)
			rest, err := io.ReadAll(body)
			if heard = append(heard, rest...); err == nil || len(heard) >= len(source) {
				t.Errorf("it plays on: %d of %d bytes, %v", len(heard), len(source), err)
			}
			if !bytes.HasPrefix(source, heard) {
				t.Error("what was heard is not the song")
			}
			t.Logf("cut %d bytes later: %v", len(rest), err)
			if again := tuneIn(t, c.url, c.token); again.StatusCode != c.status {
				t.Errorf("another try: status %s", again.Status)
			}
		})
	}
}

// hearAll hears a stream to its end.
func hearAll(resp *http.Response, pace *rate.Limiter) <-chan []byte {
	done := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(paced{resp.Body, pace})
		done <- all
	}()
	return done
}
