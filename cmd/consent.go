package cmd

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/consent"
	"github.com/musenai/musen/internal/outbound"
)

// consent is who is asked besides policy, or nil.
func (n *runningNode) consent() (musen.Consent, error) {
	w := n.cfg.Webhook
	if w.URL == "" {
		return nil, nil
	}
	secret, err := consent.ReadSecret(w.SecretFile)
	if err != nil {
		return nil, badWebhook("secret_file", err)
	}
	o := outbound.Options{Hosts: w.AllowPrivate, Limit: w.Timeout, Conns: 64}
	if w.CAFile != "" {
		if o.Roots, err = outbound.Roots(w.CAFile); err != nil {
			return nil, badWebhook("ca_file", err)
		}
	}
	p, err := consent.New(consent.Options{
		URL: w.URL, Secret: secret, Client: outbound.New(o), Timeout: w.Timeout, TTL: w.CacheTTL,
		PerSegment: w.PerSegment, Stations: w.Stations, Find: stationNames(n.rows), Now: time.Now, Rand: rand.Reader, Log: n.log,
	})
	if err != nil {
		return nil, badWebhook("stations", err) // the rest was looked at before
	}
	return p, nil
}

func badWebhook(setting string, cause error) error {
	return &failure{exit: exitUsage, code: "bad_config", cause: fmt.Errorf("webhook: %w", cause), next: "check the setting webhook." + setting}
}
