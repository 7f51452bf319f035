package cmd_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musenai/musen/gateway/admin/client"
)

// long is more audio than the buffers between node and listener hold.
const long = 24 << 20

// begun asks for a segment and takes its first bytes.
func (h *faultHome) begun(cid string) (resp *http.Response, first []byte) {
	h.t.Helper()
	resp, err := h.listen(h.t.Context(), cid)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	first = make([]byte, 100_000)
	if _, err := io.ReadFull(resp.Body, first); err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("status %s, %v", resp.Status, err)
	}
	return resp, first
}

// drains asks the node to stop and returns when it takes no more listeners.
func (h *faultHome) drains() {
	h.t.Helper()
	u, err := url.Parse(h.node.ready.Public)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.node.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	await(h.t, "the node takes no more listeners", func() bool {
		c, err := net.Dial("tcp", u.Host)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// ended waits for the node to exit, which must be with 0, in time.
func (h *faultHome) ended() {
	h.t.Helper()
	select {
	case err := <-h.node.done:
		if err != nil {
			h.t.Errorf("the node ended with %v", err)
		}
		h.node = nil
	case <-time.After(stopLimit):
		h.t.Fatal("the node still runs")
	}
}

// H74: a node that is told to stop lets streams and adds finish.
func TestFaultStopDrains(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t, "MUSEN_SHUTDOWN_TIMEOUT=30s")
	song := h.add("song", long)
	resp, first := h.begun(song.CID)
	audio := newHeld(audioOf("late", leaves(6)), leaves(3))
	answer := make(chan error, 1)
	go func() {
		_, err := h.admin.Add(t.Context(), "jazz", client.Upload{Audio: audio, Size: int64(leaves(6)), Title: "late"})
		answer <- err
	}()
	<-audio.reached
	h.drains()

	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(first, rest...), audioOf("song", long)) {
		t.Errorf("the stream was not finished: %d bytes, %v", len(first)+len(rest), err)
	}
	close(audio.open)
	if err := <-answer; err != nil {
		t.Errorf("the add was not finished: %v", err)
	}
	h.ended()

	h.start()
	h.plays(h.segments()["late"].CID, "late", leaves(6))
	h.nothingRecovered()
	h.stop()
}

// nothingRecovered: the start found all as it should be.
func (h *faultHome) nothingRecovered() {
	h.t.Helper()
	if m := recoveredLine.FindString(h.node.log.String()); m != "" {
		h.t.Errorf("the start found something to clean up: %s", m)
	}
}

// H74: what does not finish in time is cut, and never seems whole. The exit
// code is 0 all the same, and the next start finds no lock and nothing
// half-done.
func TestFaultStopCuts(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t, "MUSEN_SHUTDOWN_TIMEOUT=1s")
	song := h.add("song", long)
	resp, first := h.begun(song.CID)
	audio := newHeld(audioOf("stuck", leaves(6)), leaves(3))
	answer := make(chan error, 1)
	go func() {
		_, err := h.admin.Add(t.Context(), "jazz", client.Upload{Audio: audio, Size: int64(leaves(6)), Title: "stuck"})
		answer <- err
	}()
	<-audio.reached
	h.drains()
	h.ended()
	rest, err := io.ReadAll(resp.Body)
	if err == nil || !bytes.HasPrefix(audioOf("song", long), append(first, rest...)) {
		t.Errorf("a stream that was cut: %d bytes, %v", len(first)+len(rest), err)
	}
	close(audio.open)
	if err := <-answer; err == nil {
		t.Error("an add that was cut was acknowledged")
	}

	h.start()
	if all := h.segments(); len(all) != 1 {
		t.Errorf("%d segments, not the one that was acknowledged", len(all))
	}
	h.plays(song.CID, "song", long)
	h.holdsNone(map[string]string{"plaintext": marker})
	h.stop()
	h.start()
	h.nothingRecovered()
	h.run(0, "gc")
	h.plays(song.CID, "song", long)
	h.stop()
}

// A home has one node: the second is refused, and harms nothing.
func TestFaultTwoNodesOneHome(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	song := h.add("song", leaves(3))
	for range 2 {
		_, stderr := h.run(6, "serve", "--public", "127.0.0.1:0")
		if !strings.Contains(stderr, "[home_in_use]") {
			t.Errorf("the second node says %q", stderr)
		}
		h.plays(song.CID, "song", leaves(3))
		h.add("more", smallest)
		h.run(0, "status") // over the socket of the first
	}
	h.stop()
}
