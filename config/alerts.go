package config

import "slices"

// Alerts is the section [alerts]. More than what a rule says is told; 0 switches
// the rule off.
type Alerts struct {
	// URL that is called about each alert, signed as Standard Webhooks says.
	// Empty: alerts are in the log, the metrics and musen status alone.
	URL string `koanf:"url"`
	// File of the secret that calls are signed with, mode 0600, as in "whsec_"
	// and 24 to 64 bytes in base64.
	SecretFile string `koanf:"secret_file" file:"secret"`
	// Hosts of the URL, without port, that may be on this machine or in a private
	// network.
	AllowPrivate []string `koanf:"allow_private"`
	// File of certificates, PEM, that vouch for the receiver in place of the
	// system's.
	CAFile string `koanf:"ca_file" file:"path"`
	// Rules that suspend the subject which broke them, and end the session of a
	// share: networks, scraping, denied.
	Suspend []string `koanf:"suspend"`
	// Clients with one credential, in an hour.
	Networks int `koanf:"networks"`
	// Hours of audio that one subject, or one session of a share, took in an
	// hour.
	Scraping int `koanf:"scraping"`
	// Requests of one client that were refused, in ten minutes.
	Refusals int `koanf:"refusals"`
	// Different segments that one subject or session asked for and may not have,
	// in ten minutes; at most 1,000.
	Denied int `koanf:"denied"`
	// Wrong passwords for one share, in ten minutes.
	Guesses int `koanf:"guesses"`
	// Clients that reported one segment or station that is here, in an hour.
	Reported int `koanf:"reported"`
}

func defaultAlerts() Alerts {
	return Alerts{Networks: 10, Scraping: 24, Refusals: 1000, Denied: 100, Guesses: 50, Reported: 10}
}

// checkAlerts is about who is told, and what is done by itself.
func (c Config) checkAlerts(fault faultFunc) {
	a := c.Alerts
	for _, rule := range a.Suspend {
		if !slices.Contains([]string{"networks", "scraping", "denied"}, rule) {
			fault("alerts.suspend", "%.40q is not networks, scraping or denied, which are the rules that know whom to suspend", rule)
		}
	}
	checkHosts(fault, "alerts.allow_private", a.AllowPrivate)
	if a.URL == "" {
		return
	}
	if err := checkCalled(a.URL); err != nil {
		fault("alerts.url", "%w", err)
	}
	if a.SecretFile == "" {
		fault("alerts.secret_file", "set it: calls are signed, so that the receiver knows who calls")
	}
}
