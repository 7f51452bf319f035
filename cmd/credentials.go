package cmd

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway/admin"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/jwks"
	"github.com/musenai/musen/internal/keyring"
	"github.com/musenai/musen/internal/outbound"
	"github.com/musenai/musen/policy"
)

// How long after a rotation something that the old key signed may live: longer
// than any link, and than any session of a share.
const linkOverlap = 31 * 24 * time.Hour

// issuer is one of the configuration, with its keys.
type issuer struct {
	config.Issuer
	keys *jwks.Source
}

// newIssuers makes the issuers of the configuration. Nothing is asked of them.
func newIssuers(cfg []config.Issuer, now func() time.Time, log *slog.Logger) (list []issuer, err error) {
	for _, c := range cfg {
		o := outbound.Options{Hosts: c.AllowPrivate}
		if c.CAFile != "" {
			if o.Roots, err = outbound.Roots(c.CAFile); err != nil {
				return nil, badIssuer(c, "ca_file", err)
			}
		}
		keys, err := jwks.New(jwks.Options{
			Issuer: c.Issuer, URL: c.JWKSURL, Algorithms: c.Algorithms, Client: outbound.New(o), Now: now, Log: log,
			Interval: c.MinRefetch, Stale: c.MaxStale,
		})
		if err != nil {
			return nil, badIssuer(c, "issuer", err)
		}
		list = append(list, issuer{c, keys})
	}
	return list, nil
}

func badIssuer(c config.Issuer, setting string, cause error) error {
	return &failure{exit: exitUsage, code: "bad_config", cause: fmt.Errorf("issuer %q: %w", c.Name, cause), next: "check the setting " + setting + " of that [[issuers]] in config.toml"}
}

// runners are the names of issuers whose tokens may let their bearers run
// something.
func runners(issuers []config.Issuer) (names []string) {
	for _, i := range issuers {
		if slices.ContainsFunc(i.AllowedActions, func(a string) bool { return !policy.Action(a).ForUse() }) {
			names = append(names, i.Name)
		}
	}
	return names
}

// foreign describes an issuer to policy.
func (i issuer) foreign() policy.ForeignIssuer {
	f := policy.ForeignIssuer{
		Name: i.Name, Issuer: i.Issuer.Issuer, Audience: i.Audience, Keys: i.keys, Algorithms: i.Algorithms,
		IDTokens: i.IDTokens, MaxTTL: i.MaxTTL, Leeway: i.Leeway,
		Claims: policy.ClaimMapping{
			Stations: i.StationsClaim, StationTemplate: i.StationTemplate, AllStations: i.AllStations, DefaultStations: i.DefaultStations,
			Actions: i.ActionsClaim, ActionPrefix: i.ActionPrefix,
			DefaultActions: actionsOf(i.DefaultActions), Allowed: actionsOf(i.AllowedActions),
		},
	}
	for _, t := range i.TokenTypes {
		if t == "none" {
			t = ""
		}
		f.Types = append(f.Types, t)
	}
	return f
}

func actionsOf(words []string) (list []policy.Action) {
	for _, w := range words {
		list = append(list, policy.Action(w))
	}
	return list
}

// openGate makes the gate, and begins to ask for the keys of other issuers.
func (n *runningNode) openGate() error {
	issuers, err := newIssuers(n.cfg.Issuers, time.Now, n.log)
	if err != nil {
		return err
	}
	if n.gate, err = newGate(n.cfg, n.keys, n.rows, issuers); err != nil {
		return err
	}
	n.credentials = &credentials{
		keyring: n.keys, rows: n.rows, issuers: issuers, verifier: n.gate.verifier, issuer: n.gate.issuer,
		overlap: n.cfg.Policy.MaxTokenTTL, now: time.Now, log: n.log,
	}
	n.credentials.old = n.credentials.countOld()
	if n.isEdge() {
		n.credentials.elsewhere = elsewhere{n.rows}.refuse
	}
	n.rotated.Store(n.credentials)
	for _, i := range issuers {
		i.keys.Warm()
	}
	n.followKeys()
	return nil
}

// keysPoll is how often a node looks whether its keys of credentials are others.
const keysPoll = 2 * time.Second

// followKeys keeps the keys of credentials up to date until the node stops.
func (n *runningNode) followKeys() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closers = append(n.closers, func() error {
		stop()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		tick := time.NewTicker(keysPoll)
		defer tick.Stop()
		var said string
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := n.credentials.refresh()
			if err != nil && err.Error() != said { // told once, not every time
				n.log.Error("keys that were rotated at the origin are not known here", "err", err)
			}
			said = ""
			if err != nil {
				said = err.Error()
			}
		}
	}()
}

// credentials are the keys of everything that the node signs or accepts.
type credentials struct {
	keyring  *keyring.Keyring
	rows     *catalog.Catalog
	issuers  []issuer
	verifier *policy.Verifier
	issuer   *policy.Issuer
	overlap  time.Duration // of tokens
	now      func() time.Time
	log      *slog.Logger

	elsewhere func(context.Context) error // says where keys are rotated; nil: here

	mu  sync.Mutex // held to rotate
	old int        // keys that only verify, as the verifier has them
}

var _ admin.Keys = (*credentials)(nil)

// verifying are the keys of the keyring that verify something.
func verifying(k *keyring.Keyring, now time.Time) (tokens []policy.PublicKey, links, sessions []policy.LinkKey) {
	kid, key := k.IssuerKey()
	tokens = append(tokens, policy.PublicKey{ID: kid, Key: key.Public()})
	for _, old := range k.OldIssuerKeys(now) {
		tokens = append(tokens, policy.PublicKey{ID: old.ID, Key: ed25519.PublicKey(old.Key)})
	}
	link, secret := k.LinkKey()
	links = append(links, policy.LinkKey{ID: link, Secret: secret})
	for _, old := range k.OldLinkKeys(now) {
		links = append(links, policy.LinkKey{ID: old.ID, Secret: old.Key})
	}
	session, secret := k.SessionKey()
	sessions = append(sessions, policy.LinkKey{ID: session, Secret: secret})
	for _, old := range k.OldSessionKeys(now) {
		sessions = append(sessions, policy.LinkKey{ID: old.ID, Secret: old.Key})
	}
	return tokens, links, sessions
}

// Rotate implements admin.Keys. What is new is known to the verifier before
// anything is signed with it.
func (c *credentials) Rotate(ctx context.Context, kind string) (kid string, err error) {
	if c.elsewhere != nil {
		return "", c.elsewhere(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == wire.KeyOfLinks {
		kid, err = c.keyring.RotateLink(c.now(), linkOverlap)
	} else {
		kid, err = c.keyring.RotateIssuer(c.now(), c.overlap)
	}
	if err != nil {
		return "", err
	}
	return kid, c.use(func() { c.announce(ctx) })
}

// announceLimit is how long a rotation waits for the other gateways of a fleet.
const announceLimit = 10 * time.Second

// announce has the other gateways of a fleet take over what was rotated. One
// that has not by then refuses what is signed with the new key until it has.
func (c *credentials) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, announceLimit)
	defer cancel()
	err := c.rows.KeysRotated(ctx)
	if err == nil {
		_, err = c.rows.Settle(ctx)
	}
	if err != nil {
		c.log.Warn("other gateways may not know the new key yet", "err", err)
	}
}

// refresh takes into use what the origin has rotated, and forgets old keys whose
// time is over.
func (c *credentials) refresh() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, err := c.keyring.ReloadCredentials()
	if err != nil || !changed && c.countOld() == c.old {
		return err
	}
	return c.use(func() {})
}

// countOld is how many old keys still verify.
func (c *credentials) countOld() int {
	return len(c.keyring.OldIssuerKeys(c.now())) + len(c.keyring.OldLinkKeys(c.now()))
}

// use takes the keys of the keyring into use: first to verify, then, once
// before is done, to sign. The caller holds the lock.
func (c *credentials) use(before func()) error {
	tokens, links, sessions := verifying(c.keyring, c.now())
	if err := c.verifier.SetKeys(tokens, links, sessions); err != nil {
		return err
	}
	c.old = len(tokens) - 1 + len(links) - 1
	before()
	kid, key := c.keyring.IssuerKey()
	return c.issuer.SignWith(kid, key, links[0], sessions[0])
}

// Keys implements admin.Keys.
func (c *credentials) Keys() wire.Keys {
	now := c.now()
	all := wire.Keys{Keys: []wire.Key{}, Issuers: []wire.Issuer{}}
	add := func(k wire.Key) {
		if c.rows.KeyRevoked(k.ID) {
			k.State = wire.KeyRevoked
		}
		all.Keys = append(all.Keys, k)
	}
	kid, _ := c.keyring.IssuerKey()
	link, _ := c.keyring.LinkKey()
	session, _ := c.keyring.SessionKey()
	for _, of := range []struct {
		kind, signs string
		old         []keyring.OldKey
	}{
		{wire.KeyOfTokens, kid, c.keyring.OldIssuerKeys(now)},
		{wire.KeyOfLinks, link, c.keyring.OldLinkKeys(now)},
		{wire.KeyOfSessions, session, c.keyring.OldSessionKeys(now)},
	} {
		add(wire.Key{ID: of.signs, Kind: of.kind, State: wire.KeySigns})
		for _, old := range of.old {
			add(wire.Key{ID: old.ID, Kind: of.kind, State: wire.KeyVerifies, Until: old.Until.UTC()})
		}
	}
	for _, i := range c.issuers {
		st := i.keys.Status()
		all.Issuers = append(all.Issuers, wire.Issuer{Name: i.Name, URL: i.Issuer.Issuer, Keys: len(st.Keys), Fetched: utc(st.Fetched), Error: st.Error})
		for _, id := range st.Keys {
			add(wire.Key{ID: i.Name + "|" + id, Kind: wire.KeyOfIssuer, State: wire.KeyVerifies, Issuer: i.Name})
		}
	}
	return all
}

// utc leaves the zero time as it is.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// RevokeKey implements admin.Keys.
func (c *credentials) RevokeKey(ctx context.Context, name string) (known bool, err error) {
	known = slices.ContainsFunc(c.Keys().Keys, func(k wire.Key) bool { return k.ID == name })
	return known, c.rows.RevokeKey(ctx, name)
}

// IssuerName implements admin.Keys.
func (c *credentials) IssuerName(nameOrURL string) (name string, ok bool) {
	for _, i := range c.issuers {
		if i.Name == nameOrURL || i.Issuer.Issuer == nameOrURL {
			return i.Name, true
		}
	}
	return "", nameOrURL == "musen:"+c.keyring.Realm()
}

// keySet is what the public listener publishes: the keys of the node's own
// tokens that are good.
func (c *credentials) keySet() ([]byte, error) {
	tokens, _, _ := verifying(c.keyring, c.now())
	tokens = slices.DeleteFunc(tokens, func(k policy.PublicKey) bool { return c.rows.KeyRevoked(k.ID) })
	return policy.KeySet(tokens)
}
