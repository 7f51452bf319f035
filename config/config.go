// Package config is what an operator may set: one struct whose comments are
// the manual, its defaults, where values come from, and what is refused.
//
// Values come from flags, before the environment, before the file config.toml,
// before the defaults. An unknown name, a wrong type or an unsafe value is an
// error that names it; nothing is ignored. There are no secrets in it, only
// paths of files that hold them; it does not open these files and does not know
// what they are for, nor any other package of the program.
package config

import (
	"net/netip"
	"time"
)

// Config is all that can be set. In config.toml the settings are grouped in
// sections; in the environment public.max_streams is MUSEN_PUBLIC_MAX_STREAMS.
// Paths that are not absolute are relative to the home folder. Sizes are
// written like "32MiB" or "500MB", times like "5m" or "1h30m".
type Config struct {
	// What this home is: origin, which holds keys and the catalogue, and adds;
	// edge, a further gateway on the origin's keys and PostgreSQL catalogue;
	// storage, an operator's node that pins ciphertext; or replica, a community
	// host. It is chosen when the home is made.
	Role string `koanf:"role"`
	// How long streams and adds may take to finish after the node was told to
	// stop. What is not done by then is cut.
	ShutdownTimeout time.Duration `koanf:"shutdown_timeout"`
	// How often a running stream asks again whether its listener may still
	// listen: a revocation bites within this time.
	RecheckInterval time.Duration `koanf:"recheck_interval"`

	// The listener for the public: audio for those with a credential, and
	// ciphertext for other IPFS peers.
	Public Public `koanf:"public"`
	// The listener for operators: the API that the commands use.
	Admin Admin `koanf:"admin"`
	// The listener for Prometheus.
	Metrics Metrics `koanf:"metrics"`
	// The IPFS node.
	Node Node `koanf:"node"`
	// Copies on other peers, and how they are checked.
	Pin Pin `koanf:"pin"`
	// What a storage or replica home has besides. An origin ignores it.
	Replica Replica `koanf:"replica"`
	// The keys at rest.
	Keyring Keyring `koanf:"keyring"`
	// Where the catalogue is: which CID is which segment, and what was revoked.
	Catalogue Catalogue `koanf:"catalogue"`
	// The gateways that share one PostgreSQL catalogue. Without one it does
	// nothing.
	Fleet Fleet `koanf:"fleet"`
	// Who may do what, and for how long a credential lasts.
	Policy Policy `koanf:"policy"`
	// Others whose tokens are accepted, like the platform's OpenID provider. One
	// section for each; they are set in this file alone.
	Issuers []Issuer `koanf:"issuers"`
	// The platform, which has the last word on who may listen.
	Webhook Webhook `koanf:"webhook"`
	// How much one client, credential or subject may ask for.
	Limits Limits `koanf:"limits"`
	// What is told to the operator, and what is done about it.
	Alerts Alerts `koanf:"alerts"`
	// The record of what was done.
	Audit Audit `koanf:"audit"`
	// What people report, and who decides about it.
	Reports Reports `koanf:"reports"`
	// Links that open a station to whoever has them.
	Share Share `koanf:"share"`
	// Lists of blocks that the node neither takes nor serves.
	Denylist Denylist `koanf:"denylist"`
	// What the node writes to stderr.
	Log Log `koanf:"log"`

	origins map[string]string // key: where its value came from
}

// Public is the section [public].
type Public struct {
	// Host and port to listen on; port 0 picks a free one. An address that
	// others can reach needs tls_cert and tls_key, or trusted_proxies.
	Address string `koanf:"address"`
	// File of the TLS certificate chain, PEM.
	TLSCert string `koanf:"tls_cert" file:"path"`
	// File of the private key of the certificate, PEM.
	TLSKey string `koanf:"tls_key" file:"secret"`
	// Networks of the reverse proxies that end TLS in front of the node, like
	// "10.0.0.7" or "10.0.0.0/24". Only they may connect without TLS. Nothing
	// that they forward of the listener is looked at but client_header.
	TrustedProxies []netip.Prefix `koanf:"trusted_proxies"`
	// The header in which these proxies name the address of the client, like
	// "X-Forwarded-For", of which the last address counts that is not a proxy's.
	// From others it is ignored. Empty: the node cannot tell clients behind a
	// proxy apart, and no limit of a client holds for them.
	ClientHeader string `koanf:"client_header"`
	// What printed links begin with, like "https://radio.example". Empty: the
	// address that the node listens on.
	BaseURL string `koanf:"base_url"`
	// Where who could listen to what was taken down can appeal: a web page, or
	// an address like "mailto:appeals@radio.example". Empty: they are told to
	// ask the operator.
	AppealURL string `koanf:"appeal_url"`
	// How many responses with audio may run at once.
	MaxStreams int `koanf:"max_streams"`
	// How many of them one subject may have.
	MaxStreamsPerSubject int `koanf:"max_streams_per_subject"`
	// Header in which the trusted proxies tell the region of a client, like
	// "CF-IPCountry", for policies that ask for it. From anybody else it is
	// ignored. Empty: no region is known.
	RegionHeader string `koanf:"region_header"`
	// How long a client may take to send the headers of a request.
	ReadHeaderTimeout time.Duration `koanf:"read_header_timeout"`
	// How long a connection may rest between two requests.
	IdleTimeout time.Duration `koanf:"idle_timeout"`
	// How long a client may take nothing of a response before it is cut off.
	WriteStall time.Duration `koanf:"write_stall"`
	// The most bytes that the headers of a request may have.
	MaxHeaderBytes Size `koanf:"max_header_bytes"`
	// The most bytes that the URL of a request may have.
	MaxURL Size `koanf:"max_url"`
}

// Admin is the section [admin].
type Admin struct {
	// Unix socket that the commands talk to. Who can open it is the operator.
	Socket string `koanf:"socket" file:"path"`
	// Host and port to listen on besides, on this machine only. Empty: the
	// socket alone.
	Address string `koanf:"address"`
	// The most bytes of audio that one segment may have.
	MaxSegment Size `koanf:"max_segment"`
}

// Metrics is the section [metrics].
type Metrics struct {
	// Host and port to listen on, on this machine only. Empty: off.
	Address string `koanf:"address"`
}

// Node is the section [node].
type Node struct {
	// Multiaddresses to listen on for IPFS peers. Only enrolled peers are
	// admitted.
	Listen []string `koanf:"listen"`
	// Multiaddresses that peers are told instead of those that the node finds
	// by itself, like "/ip4/203.0.113.5/udp/4001/quic-v1". Empty: its own.
	Announce []string `koanf:"announce"`
	// Whether enrolled peers behind a home router may be reached through this
	// node.
	Relay bool `koanf:"relay"`
	// Multiaddresses, peer ID included, of the nodes through which this one is
	// reached when it is behind a home router. Empty: the origin that a replica
	// has joined.
	Relays []string `koanf:"relays"`
	// The most disk that blocks may take. "0B": what the disk has.
	StorageMax Size `koanf:"storage_max"`
	// Memory for blocks that are read often. "0B": none.
	BlockCache Size `koanf:"block_cache"`
	// How long to look for a block among the peers.
	FetchTimeout time.Duration `koanf:"fetch_timeout"`
}

// Pin is the section [pin].
type Pin struct {
	// Where this machine is: peers of the same site may fail together. It is
	// the operator's word, like "attic" or "fra1".
	Site string `koanf:"site"`
	// How often trusted peers tell each other that they are alive. One that was
	// silent for twice as long counts as gone.
	PingInterval time.Duration `koanf:"ping_interval"`
	// How often the origin compares all that is wanted with all that is held.
	ReconcileInterval time.Duration `koanf:"reconcile_interval"`
	// The time in which each copy is challenged once to prove itself.
	AuditCycle time.Duration `koanf:"audit_cycle"`
	// How long a peer may take to answer one batch of challenges.
	AuditDeadline time.Duration `koanf:"audit_deadline"`
	// How many bytes per second the check of this machine's own blocks may read.
	ScrubRate Size `koanf:"scrub_rate"`
}

// Replica is the section [replica].
type Replica struct {
	// Host and port of a listener that serves ciphertext over HTTP. One that
	// others can reach needs tls_cert and tls_key. Empty: off.
	Address string `koanf:"address"`
	// File of the TLS certificate chain, PEM.
	TLSCert string `koanf:"tls_cert" file:"path"`
	// File of the private key of the certificate, PEM.
	TLSKey string `koanf:"tls_key" file:"secret"`
	// Unix socket that the replica commands talk to. Who can open it is the
	// host.
	Socket string `koanf:"socket" file:"path"`
}

// Catalogue is the section [catalogue].
type Catalogue struct {
	// File, mode 0600, with the connection string of the PostgreSQL database that
	// holds the catalogue. Empty: the file catalogue.db in the home.
	PostgresFile string `koanf:"postgres_file" file:"secret"`
}

// Fleet is the section [fleet].
type Fleet struct {
	// What the other gateways call this one. Empty: its peer ID.
	Name string `koanf:"name"`
	// How long this gateway may serve without having asked the catalogue what
	// was revoked. After that it refuses whoever needs a credential, also in the
	// middle of a stream, until it has asked.
	Lease time.Duration `koanf:"lease"`
	// How often it asks, whatever it is told in between.
	Poll time.Duration `koanf:"poll"`
	// Multiaddresses, peer ID included, of the nodes that an edge reads blocks
	// from. Empty: the origin's, as the catalogue has them.
	Peers []string `koanf:"peers"`
}

// Keyring is the section [keyring]. An origin or an edge sets exactly one of
// the two files that open it, any other role none.
type Keyring struct {
	// Folder of the keyring. The origin writes it, an edge only reads it: the
	// origin's own folder, shared, or a copy.
	Folder string `koanf:"folder" file:"path"`
	// File whose first line is the passphrase of the keyring, mode 0600.
	PassphraseFile string `koanf:"passphrase_file" file:"secret"`
	// File of the age identity that opens the keyring, mode 0600.
	IdentityFile string `koanf:"identity_file" file:"secret"`
}

// Policy is the section [policy].
type Policy struct {
	// Folder of Cedar policies: every *.cedar in it, in place of the built-in
	// ones. What changes there takes effect at once, if it validates.
	Dir string `koanf:"dir" file:"path"`
	// One file of Cedar policies in place of that folder.
	File string `koanf:"file" file:"path"`
	// Zone of the hours and days that policies ask for, like "Europe/Tallinn".
	Zone string `koanf:"zone"`
	// How long a printed link works, unless it is asked for otherwise.
	LinkTTL time.Duration `koanf:"link_ttl"`
	// How long after the last review of access the next is due. "0s": never.
	ReviewEvery time.Duration `koanf:"review_every"`
	// Tokens that were not used for that long are refused. "0s": none is.
	DisableUnused time.Duration `koanf:"disable_unused"`
	// The longest time that a token may be issued for.
	MaxTokenTTL time.Duration `koanf:"max_token_ttl"`
}

// Limits is the section [limits]. Whole numbers are requests a second, but for
// limited_streams; what is beyond them is answered with 429 and a time to wait.
// No player comes near them.
type Limits struct {
	// Of one client: an IPv4 address, or the /64 of an IPv6 one.
	Client int `koanf:"client"`
	// Of one client that were refused, as with a credential that is not good.
	// Beyond it only credentials are looked at that were seen to be good before.
	Refused int `koanf:"refused"`
	// Of one client for ciphertext, on /ipfs.
	Sealed int `koanf:"sealed"`
	// With one token, link or session.
	Credential int `koanf:"credential"`
	// With all credentials of one subject.
	Subject int `koanf:"subject"`
	// Of all who came in by one share.
	Share int `koanf:"share"`
	// For one station.
	Station int `koanf:"station"`
	// With the credentials of a subject that is limited.
	Limited int `koanf:"limited"`
	// How many responses with audio such a subject may have at a time.
	LimitedStreams int `koanf:"limited_streams"`
	// How long a client that was quiet may ask at once what it would have been
	// given in that time.
	Burst time.Duration `koanf:"burst"`
	// How long clients are told apart by the same pseudonyms. Then the key that
	// makes them is forgotten, and all are strangers. It is in memory alone.
	PseudonymLife time.Duration `koanf:"pseudonym_life"`
}

// Audit is the section [audit].
type Audit struct {
	// How often the node verifies the whole log, and sends a checkpoint to the
	// alerts.url, if there is one.
	CheckEvery time.Duration `koanf:"check_every"`
	// How long after the last review of the log the next is due. "0s": never.
	ReviewEvery time.Duration `koanf:"review_every"`
}

// Share is the section [share].
type Share struct {
	// How long a share opens its station, unless it is asked for otherwise.
	TTL time.Duration `koanf:"ttl"`
	// How long who opened it may listen, unless it is asked for otherwise.
	SessionTTL time.Duration `koanf:"session_ttl"`
	// How many passwords are checked at once. Each takes 19 MiB of memory.
	PasswordsAtOnce int `koanf:"passwords_at_once"`
}

// Denylist is the section [denylist]. A node of any role may have it.
type Denylist struct {
	// Files in the IPFS compact denylist format. What changes in them takes
	// effect within seconds. Of two that have a rule for the same block the one
	// that is named last decides. The node does not start without them.
	Files []string `koanf:"files" file:"path"`
}

// Log is the section [log].
type Log struct {
	// The least that is written: debug, info, warn or error.
	Level string `koanf:"level"`
	// text for people, json for machines.
	Format string `koanf:"format"`
}

// Roles are what a home can be.
func Roles() []string { return []string{RoleOrigin, RoleEdge, RoleStorage, RoleReplica} }

// The roles.
const (
	RoleOrigin  = "origin"
	RoleEdge    = "edge"
	RoleStorage = "storage"
	RoleReplica = "replica"
)

// Default is the configuration where nothing was set. It lacks what unlocks
// the keyring, so it does not pass Check.
func Default() Config {
	return Config{
		Role:            RoleOrigin,
		ShutdownTimeout: 8 * time.Second,
		RecheckInterval: 2 * time.Second,
		Public: Public{
			Address:              "127.0.0.1:8420",
			MaxStreams:           512,
			MaxStreamsPerSubject: 16,
			ReadHeaderTimeout:    10 * time.Second,
			IdleTimeout:          time.Minute,
			WriteStall:           30 * time.Second,
			MaxHeaderBytes:       16 << 10,
			MaxURL:               4 << 10,
		},
		Admin: Admin{Socket: "admin.sock", MaxSegment: 4 << 30},
		Node: Node{
			Listen:       []string{"/ip4/127.0.0.1/tcp/0"},
			BlockCache:   32 << 20,
			FetchTimeout: 20 * time.Second,
		},
		Pin: Pin{
			PingInterval:      5 * time.Second,
			ReconcileInterval: time.Minute,
			AuditCycle:        12 * time.Hour,
			AuditDeadline:     10 * time.Second,
			ScrubRate:         8 << 20,
		},
		Replica: Replica{Socket: "host.sock"},
		Keyring: Keyring{Folder: "keys"},
		Fleet:   Fleet{Lease: 5 * time.Second, Poll: time.Second},
		Policy:  Policy{Dir: "policy", Zone: "UTC", LinkTTL: 5 * time.Minute, MaxTokenTTL: 90 * 24 * time.Hour, ReviewEvery: 90 * 24 * time.Hour},
		Limits: Limits{
			Client: 200, Refused: 20, Sealed: 100, Credential: 50, Subject: 100, Share: 2000, Station: 5000,
			Limited: 2, LimitedStreams: 1,
			Burst: 10 * time.Second, PseudonymLife: 24 * time.Hour,
		},
		Share:   Share{TTL: 30 * 24 * time.Hour, SessionTTL: 12 * time.Hour, PasswordsAtOnce: 2},
		Audit:   Audit{CheckEvery: 24 * time.Hour, ReviewEvery: 7 * 24 * time.Hour},
		Webhook: defaultWebhook(),
		Alerts:  defaultAlerts(),
		Reports: defaultReports(),
		Log:     Log{Level: "info", Format: "text"},
	}
}
