// Package admin serves the admin API of a node: the only way in which the
// command line, and later the dashboard, reaches a running node. openapi.yaml
// describes it and is served with it.
//
// Each route declares in one table what its caller must be allowed to do, and
// to what; the guard asks policy before a handler runs, and refuses what the
// table does not know. Whoever connects to a listener served as Local is the
// operator. Everywhere else a request needs a bearer token; links and cookies
// are credentials of listeners and open nothing here.
//
// The package does not know how audio is sealed, where rows, keys and blocks
// are kept, or how a token is signed: each of these comes in as one of Options.
package admin

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

// openAPI is the description of the API, an OpenAPI 3.1 document in YAML.
//
//go:embed openapi.yaml
var openAPI []byte

// Stations finds stations and changes what is kept of them.
type Stations interface {
	// Station returns musen.ErrNotFound when there is none.
	Station(ctx context.Context, nameOrID string) (musen.Station, error)
	Stations(ctx context.Context) ([]musen.Station, error)
	// UpdateStation returns musen.ErrExists when another one has the name.
	UpdateStation(ctx context.Context, s musen.Station) error
}

// Segments finds segments.
type Segments interface {
	// Segment returns musen.ErrNotFound when there is none. One that was
	// removed is returned with that state.
	Segment(ctx context.Context, mh multihash.Multihash) (musen.Segment, error)
	// Segments returns up to limit live segments of a station, oldest first,
	// that come after a cursor, and the cursor of the next page, which is empty
	// on the last. A cursor that it did not make is musen.ErrInvalid.
	Segments(ctx context.Context, station, cursor string, limit int) (page []musen.Segment, next string, err error)
	// Count is the number of live segments of all stations.
	Count(ctx context.Context) (int, error)
}

// Tokens records tokens and ends them, durably on return.
type Tokens interface {
	PutToken(ctx context.Context, t musen.Token) error
	Tokens(ctx context.Context) ([]musen.Token, error)
	RevokeToken(ctx context.Context, jti string) error
	RevokeSubject(ctx context.Context, subject string) error
}

// Receipts remembers which answer an idempotency key got.
type Receipts interface {
	// Idempotent finds what was put under key. It returns musen.ErrInvalid if
	// that was for a request with another digest.
	Idempotent(ctx context.Context, key string, request []byte) (response []byte, found bool, err error)
	// PutIdempotent keeps response until expires.
	PutIdempotent(ctx context.Context, key string, request, response []byte, expires time.Time) error
}

// Origin makes and destroys stations and segments.
type Origin interface {
	// CreateStation fills in what s does not say: id, label, epoch and time.
	CreateStation(ctx context.Context, s musen.Station) (musen.Station, error)
	RemoveStation(ctx context.Context, id string) error
	Add(ctx context.Context, req musen.AddRequest, audio io.Reader) (s musen.Segment, existing bool, err error)
	Remove(ctx context.Context, c cid.Cid) error
	// Enforce has copies and pins follow a takedown that was recorded or lifted.
	Enforce(ctx context.Context, t musen.Takedown) error
}

// Checker reads segments back.
type Checker interface {
	// Verify checks every block and chunk of a segment for whoever has the
	// grant. What is wrong with them stands in the report.
	Verify(ctx context.Context, g policy.Grant, c cid.Cid) (musen.Report, error)
	// Repair does what Verify does, after it has replaced blocks that are wrong
	// or missing by those of peers.
	Repair(ctx context.Context, g policy.Grant, c cid.Cid) (musen.Report, error)
}

// Node tells what peer this is and keeps its disk tidy.
type Node interface {
	musen.BlockChecker
	PeerID() string
	Addrs() []string // multiaddrs that peers can dial
	// Space is how many bytes the node takes on the disk, and how many more it
	// may, under a limit of its own (0: it has none) and for what the disk has.
	Space(ctx context.Context) (taken, free, limit int64, err error)
	GC(ctx context.Context) (blocks int, freed int64, err error)
}

// PolicyFiles are where the policies come from; *folder.Folder is one.
type PolicyFiles interface {
	// Next tells what lies there now: names and digest.
	Next() (folder.State, error)
	// ReloadOnly loads what has that digest, or returns folder.ErrChanged. The error
	// says why it is not in force. If it was already, what was lost is meant to be
	// gone.
	ReloadOnly(digest string) error
	State() folder.State
}

// Options are the parts of a Server. The parts of the first group must be set.
type Options struct {
	Stations Stations
	Segments Segments
	Tokens   Tokens
	Keys     Keys
	Subjects Subjects
	Alerts   Alerts
	Receipts Receipts
	Roles    Roles
	Reviews  Reviews
	Audit    Audit
	Uses     Uses
	// AuditHeads is of the same log.
	AuditHeads AuditHeads
	AuditState AuditState
	// Approvals keeps what waits for a second person.
	Approvals Approvals
	Takedowns Takedowns
	Origin    Origin
	Checker   Checker
	Node      Node
	Engine    *policy.Engine
	Verifier  *policy.Verifier
	Issuer    *policy.Issuer
	Digest    func() hash.Hash // keyed, so that what is kept does not tell what audio it was
	Now       func() time.Time // clock
	Rand      io.Reader        // source of request ids
	Log       *slog.Logger
	Shares    Shares
	Denied    musen.Denier // what no link is made to; nil: nothing is denied
	Denylists Denylists
	Reports   Reports

	Passwords Passwords // of shares

	// Those of this group are nil on a node without a swarm: their routes answer
	// no_swarm.
	Members  Members
	Invites  Invites
	Copies   Copies
	Services Services

	// Fleet is the gateways that share the catalogue; nil: this node has its own.
	Fleet Fleet

	Policies  PolicyFiles
	Version   string   // of the program
	Realm     string   // of the keyring
	PublicURL string   // where listeners reach the node, such as https://radio.example; links start with it
	Hosts     []string // names that a Host header may have on TCP, besides loopback ones
	// Runners are the names of issuers whose tokens may say that their bearers
	// run the node: which of their subjects do is not known here.
	Runners []string

	MaxSegment int64 // bytes of audio in one upload; must be positive
	Limits     Limits
}

// Limits bound what one request may take. Zero values become the defaults.
type Limits struct {
	UploadStall time.Duration // 4 KiB of an upload must come in that time; default 60 s
	LinkTTL     time.Duration // default of links, 5 min
	MaxLinkTTL  time.Duration // default 24 h
	TokenTTL    time.Duration // default of tokens, 24 h
	MaxTokenTTL time.Duration // default 366 days
	ReviewEvery time.Duration // a review of access is due that long after the last; 0: never
	// AuditReviewEvery is the same for reviews of the audit log.
	AuditReviewEvery time.Duration
	ReceiptTTL       time.Duration // idempotency keys are remembered that long; default 24 h
	ReviewWithin     time.Duration // a report waits for too long after that; default 24 h

	ShareTTL      time.Duration // default of shares, 30 days
	MaxShareTTL   time.Duration // default 366 days
	SessionTTL    time.Duration // default of the sessions that they open, 12 h
	MaxSessionTTL time.Duration // default 31 days
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.UploadStall, time.Minute},
		{&l.LinkTTL, 5 * time.Minute},
		{&l.MaxLinkTTL, 24 * time.Hour},
		{&l.TokenTTL, 24 * time.Hour},
		{&l.MaxTokenTTL, 366 * 24 * time.Hour},
		{&l.ReceiptTTL, 24 * time.Hour},
		{&l.ReviewWithin, 24 * time.Hour},
		{&l.ShareTTL, 30 * 24 * time.Hour},
		{&l.MaxShareTTL, 366 * 24 * time.Hour},
		{&l.SessionTTL, 12 * time.Hour},
		{&l.MaxSessionTTL, 31 * 24 * time.Hour},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return l
}

// check returns an error that names a part that is missing.
func (o Options) check() error {
	for name, missing := range map[string]bool{
		"Takedowns": o.Takedowns == nil,
		"Stations":  o.Stations == nil, "Segments": o.Segments == nil, "Tokens": o.Tokens == nil, "Keys": o.Keys == nil, "Alerts": o.Alerts == nil, "Denylists": o.Denylists == nil,
		"Subjects": o.Subjects == nil, "Receipts": o.Receipts == nil, "Roles": o.Roles == nil, "Origin": o.Origin == nil, "Checker": o.Checker == nil, "Node": o.Node == nil,
		"Approvals": o.Approvals == nil, "Audit": o.Audit == nil || o.AuditHeads == nil,
		"Shares": o.Shares == nil, "Passwords": o.Passwords == nil,
		"Reviews": o.Reviews == nil, "Uses": o.Uses == nil, "Reports": o.Reports == nil,
		"Engine": o.Engine == nil, "Verifier": o.Verifier == nil, "Issuer": o.Issuer == nil,
		"Digest": o.Digest == nil, "Policies": o.Policies == nil, "Now": o.Now == nil, "Rand": o.Rand == nil, "Log": o.Log == nil,
	} {
		if missing {
			return fmt.Errorf("make the admin API: no %s", name)
		}
	}
	if o.MaxSegment <= 0 {
		return errors.New("make the admin API: MaxSegment must be positive")
	}
	return nil
}
