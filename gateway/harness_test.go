package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/seal"
)

// A clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// A realm is a node in memory: really sealed segments in real blocks, opened by
// a real Edge for real credentials.
type realm struct {
	t        testing.TB
	clock    *clock
	issuer   *policy.Issuer
	verifier *policy.Verifier
	engine   *policy.Engine
	edge     *musen.Edge
	store    blockstore.Blockstore
	blocks   blockservice.BlockService
	audio    map[string][]byte // by CID

	mu       sync.Mutex
	version  uint64
	stations map[string]musen.Station
	segments map[string]musen.Segment // by multihash
	known    map[string]bool          // multihashes of catalogued blocks
	revoked  map[string]bool          // by id
	ended    map[string]time.Time     // when all of a subject was revoked
	states   map[string]policy.SubjectState
	roles    map[string]policy.Role // by subject, on every station
	denied   map[string]bool        // by multihash
	shares   map[string]musen.Share // by secret
	onRead   func(c cid.Cid, off int64) error
}

func newRealm(t testing.TB) *realm {
	t.Helper()
	r := &realm{
		t: t, clock: &clock{t: time.Now()}, audio: map[string][]byte{}, stations: map[string]musen.Station{},
		segments: map[string]musen.Segment{}, known: map[string]bool{}, revoked: map[string]bool{},
		shares: map[string]musen.Share{}, states: map[string]policy.SubjectState{}, ended: map[string]time.Time{},
		roles: map[string]policy.Role{}, denied: map[string]bool{},
	}
	r.store = blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	r.blocks = blockservice.New(r.store, offline.Exchange(r.store))
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	secret, err := seal.NewKey(rand.Reader) // 32 random bytes
	check(t, err)
	sessionSecret, err := seal.NewKey(rand.Reader)
	check(t, err)
	session := policy.LinkKey{ID: "s", Secret: sessionSecret}
	r.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: "musen", Audience: "musen", KeyID: "k", Key: private,
		LinkKeyID: "l", LinkSecret: secret, SessionKey: session, Now: r.clock.Now, Rand: rand.Reader,
	})
	check(t, err)
	r.verifier, err = policy.NewVerifier(policy.VerifierOptions{
		Issuer: "musen", Audience: "musen", Keys: []policy.PublicKey{{ID: "k", Key: public}},
		LinkKeys: []policy.LinkKey{{ID: "l", Secret: secret}}, SessionKeys: []policy.LinkKey{session},
		Revocations: r, Shares: r, Subjects: r, Now: r.clock.Now,
		After: func(d time.Duration) <-chan time.Time { // it has passed at once
			r.clock.Add(d)
			over := make(chan time.Time)
			close(over)
			return over
		},
	})
	check(t, err)
	r.engine, err = policy.NewEngine(policy.EngineOptions{Now: r.clock.Now, Roles: r})
	check(t, err)
	r.edge, err = musen.NewEdge(musen.EdgeOptions{
		Directory: r, Blocks: r, Keys: r, Policy: r.engine, Denied: r, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	r.addStation("jazz", true)
	return r
}

// Held implements policy.Roles.
func (r *realm) Held(subject, _ string, _ time.Time) policy.RoleSet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return policy.RoleSet(0).With(r.roles[subject])
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *realm) addStation(id string, downloads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stations[id] = musen.Station{ID: id, Name: id, Downloads: downloads, Epoch: 1}
}

// audioOf makes audio that is different at every place.
func audioOf(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// add seals audio and adds it, with what of the segment is told.
func (r *realm) add(s musen.Segment, audio []byte) musen.Segment {
	r.t.Helper()
	if s.Station == "" {
		s.Station = "jazz"
	}
	if s.MediaType == "" {
		s.MediaType = "audio/mpeg"
	}
	var id [16]byte
	_, err := rand.Read(id[:])
	check(r.t, err)
	s.ID = strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
	key, err := seal.NewKey(rand.Reader)
	check(r.t, err)
	var sealed bytes.Buffer
	w, err := seal.NewWriter(&sealed, key, seal.AssociatedData(s.Station, s.ID))
	check(r.t, err)
	_, err = w.Write(audio)
	check(r.t, err)
	check(r.t, w.Close())
	s.Size, s.SealedSize = int64(len(audio)), int64(sealed.Len())
	s.Created = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	s.Key = musen.WrappedKey{Generation: 1, Ciphertext: key}
	s.CID, s.Leaves = r.addBlocks(&sealed)
	r.put(s)
	r.audio[s.CID.String()] = audio
	return s
}

// addBlocks adds sealed bytes as ipfs add --cid-version=1 --raw-leaves does.
func (r *realm) addBlocks(sealed io.Reader) (root cid.Cid, leaves []cid.Cid) {
	r.t.Helper()
	dag := merkledag.NewDAGService(r.blocks)
	p := helpers.DagBuilderParams{
		Maxlinks: 174, RawLeaves: true, Dagserv: dag,
		CidBuilder: cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256},
	}
	b, err := p.New(chunk.NewSizeSplitter(sealed, musen.LeafSize))
	check(r.t, err)
	n, err := balanced.Layout(b)
	check(r.t, err)
	r.know(n.Cid())
	for _, l := range n.Links() {
		leaves = append(leaves, l.Cid)
		r.know(l.Cid)
	}
	if len(leaves) == 0 {
		leaves = []cid.Cid{n.Cid()}
	}
	return n.Cid(), leaves
}

func (r *realm) know(c cid.Cid) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[string(c.Hash())] = true
}

func (r *realm) put(s musen.Segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.segments[string(s.CID.Hash())] = s
	r.version++
}

// The roles that a realm plays for the Edge, the Verifier and the Server.

func (r *realm) Station(_ context.Context, id string) (musen.Station, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.stations[id]
	if !ok {
		return s, musen.ErrNotFound
	}
	return s, nil
}

func (r *realm) Segment(_ context.Context, mh multihash.Multihash) (musen.Segment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.segments[string(mh)]
	if !ok {
		return s, musen.ErrNotFound
	}
	return s, nil
}

func (r *realm) Version() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

func (r *realm) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	r.mu.Lock()
	hook := r.onRead
	r.mu.Unlock()
	if hook != nil {
		if err := hook(c, off); err != nil {
			return 0, err
		}
	}
	b, err := r.store.Get(ctx, c)
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(b.RawData()).ReadAt(p, off)
}

func (r *realm) Heal(context.Context, cid.Cid) error { return errors.New("nobody has it") }

func (r *realm) Release(d policy.Decision, station, segment string, w musen.WrappedKey) ([]byte, error) {
	if !d.ReleasesKey(station, segment) {
		return nil, errors.New("no decision")
	}
	return bytes.Clone(w.Ciphertext), nil
}

func (r *realm) HasBlock(_ context.Context, mh multihash.Multihash) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[string(mh)], nil
}

func (r *realm) Revoked(id, subject string, issued time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.ended[subject]
	return r.revoked[id] || ok && issued.Unix() <= at.Unix()
}

func (r *realm) KeyRevoked(key string) bool { return r.Revoked("key "+key, "", time.Time{}) }

func (r *realm) SubjectState(subject string) policy.SubjectState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.states[subject], policy.SubjectActive)
}

func (r *realm) setSubject(subject string, state policy.SubjectState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states[subject] = state
}

func (r *realm) Epoch(station string) (uint64, bool) {
	s, err := r.Station(context.Background(), station)
	return s.Epoch, err == nil
}

func (r *realm) revoke(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked[id] = true
}

// hook has every read of a block call f first.
func (r *realm) hook(f func(c cid.Cid, off int64) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onRead = f
}

func (r *realm) token(stations ...string) string {
	raw, _ := r.tokenFor("listener", stations...)
	return raw
}

func (r *realm) tokenFor(subject string, stations ...string) (raw, id string) {
	r.t.Helper()
	raw, id, _, err := r.issuer.Token(policy.TokenRequest{
		Subject: subject, Stations: stations, Actions: []policy.Action{policy.Listen, policy.Download}, TTL: time.Hour,
	})
	check(r.t, err)
	return raw, id
}

func (r *realm) link(station string, c cid.Cid) string {
	r.t.Helper()
	raw, _, err := r.issuer.Link(policy.LinkRequest{Station: station, Epoch: 1, Path: "/listen/" + c.String()})
	check(r.t, err)
	return raw
}

// unknownCID is a CID that nobody has.
func unknownCID(codec uint64) cid.Cid {
	sum := sha256.Sum256([]byte("nobody has this"))
	mh, _ := multihash.Encode(sum[:], multihash.SHA2_256)
	return cid.NewCidV1(codec, mh)
}

// A site is a Server that listens on loopback.
type site struct {
	*realm
	server *Server
	addr   string
	url    string
	client *http.Client
	log    *logSink
}

func (r *realm) options() Options {
	return Options{
		Opener: FromEdge(r.edge), Verifier: r.verifier, Subjects: r, Blocks: r.blocks, Index: r, Denied: r,
		Now: r.clock.Now, Rand: rand.Reader,
	}
}

// serve starts a Server with options that change may change.
func (r *realm) serve(change func(*Options)) *site {
	r.t.Helper()
	s := &site{realm: r, log: newLogSink()}
	o := r.options()
	o.Log = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if change != nil {
		change(&o)
	}
	var err error
	s.server, err = New(o)
	check(r.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(r.t, err)
	s.addr = l.Addr().String()
	s.url = "http://" + s.addr
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l) }()
	transport := &http.Transport{DisableCompression: true}
	s.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r.t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // cut what is left
		_ = s.server.Shutdown(ctx)
		check(r.t, <-served)
	})
	return s
}

// A logSink keeps what is logged, and lets a test wait for a line.
type logSink struct {
	mu    sync.Mutex
	more  *sync.Cond
	lines []string
	read  int // of lines, by await
}

func newLogSink() *logSink {
	l := &logSink{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *logSink) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	l.more.Broadcast()
	return len(p), nil
}

func (l *logSink) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

// await returns the next line that has every one of the words in it.
func (l *logSink) await(words ...string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.read == len(l.lines) {
			l.more.Wait()
		}
		line := l.lines[l.read]
		l.read++
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return line
		}
	}
}

// An answer is what a client got.
type answer struct {
	*http.Response
	body []byte
	err  error // of reading it
}

// ask sends a request with headers given as name, value pairs.
func (s *site) ask(method, path string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, nil)
	check(s.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{&http.Response{}, nil, err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, body, err}
}

// raw sends bytes over TCP and returns what comes back until the server closes.
func (s *site) raw(request string) string {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	check(s.t, err)
	defer c.Close()
	_, err = io.WriteString(c, request)
	check(s.t, err)
	b, _ := io.ReadAll(c) // a reset ends an answer too
	return string(b)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
