package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/contract"
)

// node is one whose answers a test sets.
type node struct {
	status  Status
	orders  []Order
	terms   contract.Contract
	until   time.Time
	leaving bool
	appeal  string
	err     error
}

func (n *node) Status(context.Context) (Status, error) { return n.status, n.err }

func (n *node) Why(_ context.Context, c cid.Cid) (Why, error) {
	return Why{CID: c.String(), Reason: "ordered"}, n.err
}

func (n *node) Orders(limit int) []Order { return n.orders[:min(limit, len(n.orders))] }

func (n *node) SetContract(_ context.Context, c contract.Contract) error {
	n.terms = c
	return n.err
}

func (n *node) Pause(_ context.Context, until time.Time) error {
	n.until = until
	return n.err
}

func (n *node) Leave(_ context.Context, leaving bool) error {
	n.leaving = leaving
	return n.err
}

func (n *node) Appeal(_ context.Context, text string) error {
	n.appeal = text
	return n.err
}

// start serves n on a socket and returns a client of it.
func start(t *testing.T, n *node) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(n, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(context.Background()), <-served, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return NewClient(path)
}

func TestCalls(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	want := Status{PeerID: "12D3", Role: "replica", Origins: []Line{{Peer: "x", Up: true, Since: at}}, Peer: []string{"/ip4/127.0.0.1/tcp/1"}, Opens: &at, Held: 3, Free: -5, Contract: contract.Contract{Disk: 200e9, Up: 2_500_000, Hours: contract.Hours{From: 60, To: 120}}}
	n := &node{status: want, orders: []Order{{Seq: 2, Verb: "hold"}, {Seq: 1, Verb: "drop"}}}
	c := start(t, n)
	ctx := t.Context()
	if got, err := c.Status(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := c.Orders(ctx, 1); err != nil || len(got) != 1 || got[0].Seq != 2 {
		t.Errorf("orders: %+v, %v", got, err)
	}
	id := cid.MustParse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
	if got, err := c.Why(ctx, id); err != nil || got.CID != id.String() || got.Reason != "ordered" {
		t.Errorf("why: %+v, %v", got, err)
	}
	terms := contract.Contract{Disk: 1 << 30, Label: []string{"abc"}}
	for what, err := range map[string]error{
		"contract": c.SetContract(ctx, terms), "pause": c.Pause(ctx, at), "leave": c.Leave(ctx, true), "appeal": c.Appeal(ctx, "my line was cut"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !n.terms.Equal(terms) || !n.until.Equal(at) || !n.leaving || n.appeal != "my line was cut" {
		t.Errorf("the node was told %+v", n)
	}
}

func TestRefusals(t *testing.T) {
	n := &node{err: Refuse(http.StatusConflict, "no", "it holds %d", 3)}
	c := start(t, n)
	var refused *Error
	if _, err := c.Status(t.Context()); !errors.As(err, &refused) || refused.Status != 409 || refused.Code != "no" || err.Error() != "it holds 3" {
		t.Errorf("got %v", err)
	}
	n.err = errors.New("disk full")
	if err := c.Leave(t.Context(), true); !errors.As(err, &refused) || refused.Status != 500 || refused.Detail != "disk full" {
		t.Errorf("got %v", err)
	}
	n.err = nil
	if err := c.Appeal(t.Context(), strings.Repeat("x", maxAppeal+1)); !errors.As(err, &refused) || refused.Code != "too_long" {
		t.Errorf("got %v", err)
	}
	for _, call := range [][2]string{
		{"PUT /v1/contract", `{"disk":"1B"}`}, {"PUT /v1/contract", `{"disk":"1GiB","x":1}`}, {"PUT /v1/contract", `{}{}`},
		{"PUT /v1/pause", ``}, {"PUT /v1/pause", `{"until":"` + strings.Repeat("x", maxBody) + `"}`},
		{"GET /v1/orders?limit=x", ``}, {"GET /v1/segments/nonsense", ``}, {"GET /v1/segments/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvykv", ``},
		{"GET /v2", ``}, {"PATCH /v1/status", ``},
	} {
		method, path, _ := strings.Cut(call[0], " ")
		req, err := http.NewRequest(method, "http://host"+path, bytes.NewReader([]byte(call[1])))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 || err != nil || !strings.Contains(string(b), `"code"`) {
			t.Errorf("%s %.40s: %s %s %v", call[0], call[1], resp.Status, b, err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	c := NewClient(filepath.Join(t.TempDir(), "none"))
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := NewServer(&node{}, slog.New(slog.DiscardHandler)).Serve(l); err == nil {
		t.Error("serves on TCP")
	}
}
