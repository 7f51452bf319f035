package config

import "time"

// Issuer is one section [[issuers]].
type Issuer struct {
	// Short word for this issuer, of a-z, 0-9 and -. Subjects, ids and keys of
	// its tokens begin with it and a bar here, as in "acme|user-7". Changing it
	// makes what was revoked under the old one good again.
	Name string `koanf:"name"`
	// URL of the issuer, exactly as its tokens have it in iss, like
	// "https://login.example/".
	Issuer string `koanf:"issuer"`
	// What its tokens must have in aud: the name that this radio has there.
	Audience string `koanf:"audience"`
	// URL of its key set. Empty: found by OpenID Connect discovery, at
	// .well-known/openid-configuration below the issuer.
	JWKSURL string `koanf:"jwks_url"`
	// Algorithms that its tokens may be signed with: EdDSA, ES256, RS256, PS256.
	// The latter two are not in the default: list one if the provider has no
	// other.
	Algorithms []string `koanf:"algorithms"`
	// What its tokens may have in typ: at+jwt, JWT, or none for tokens without.
	TokenTypes []string `koanf:"token_types"`
	// Whether ID tokens are taken too: those that were made for the client that
	// logged in.
	IDTokens bool `koanf:"id_tokens"`
	// Claim with the names or ids of stations that a token is for. One that lies
	// deeper is written like "/app/stations". Empty: default_stations.
	StationsClaim string `koanf:"stations_claim"`
	// What a station is called that such a value stands for, {} being the
	// value, like "acme-{}". Empty: the value.
	StationTemplate string `koanf:"station_template"`
	// Whether the value * stands for all stations, and the node itself.
	AllStations bool `koanf:"all_stations"`
	// Names or ids of stations that a token without that claim is for.
	DefaultStations []string `koanf:"default_stations"`
	// Claim with the words for what a token allows, like "scope". Empty:
	// default_actions.
	ActionsClaim string `koanf:"actions_claim"`
	// What those words begin with, like "radio:" for "radio:listen". Others are
	// passed over.
	ActionPrefix string `koanf:"action_prefix"`
	// What a token without that claim allows.
	DefaultActions []string `koanf:"default_actions"`
	// The most that a token of this issuer ever allows, whatever it says.
	AllowedActions []string `koanf:"allowed_actions"`
	// The longest life of a token. One that lives longer is refused.
	MaxTTL time.Duration `koanf:"max_ttl"`
	// By how much its clock may differ from this one.
	Leeway time.Duration `koanf:"leeway"`
	// How much time is between two requests for its keys, at least.
	MinRefetch time.Duration `koanf:"min_refetch"`
	// How long keys are used after they were fetched last.
	MaxStale time.Duration `koanf:"max_stale"`
	// Hosts of its URLs, without ports, that may be on this machine or in a
	// private network. Empty: public addresses alone are connected to.
	AllowPrivate []string `koanf:"allow_private"`
	// File of certificates, PEM, that vouch for its servers in place of the
	// system's.
	CAFile string `koanf:"ca_file" file:"path"`
}

// Webhook is the section [webhook].
type Webhook struct {
	// URL that is asked, once policy has allowed it, whether somebody may hear a
	// segment. What is not a clear yes is a no. Empty: nobody is asked.
	URL string `koanf:"url"`
	// File of the secret that questions are signed with, mode 0600, as in
	// "whsec_" and 24 to 64 bytes in base64.
	SecretFile string `koanf:"secret_file" file:"secret"`
	// How long an answer may take.
	Timeout time.Duration `koanf:"timeout"`
	// How long an answer holds, unless it says less.
	CacheTTL time.Duration `koanf:"cache_ttl"`
	// Whether an answer is for one segment, and not for the whole station.
	PerSegment bool `koanf:"per_segment"`
	// Names or ids of the stations that are asked about; the node does not start
	// if there is no such station. Empty: all.
	Stations []string `koanf:"stations"`
	// Hosts of the URL, without port, that may be on this machine or in a private
	// network.
	AllowPrivate []string `koanf:"allow_private"`
	// File of certificates, PEM, that vouch for the platform in place of the
	// system's.
	CAFile string `koanf:"ca_file" file:"path"`
}

// DefaultIssuer is an issuer of which nothing was set.
func DefaultIssuer() Issuer {
	return Issuer{
		Algorithms: []string{"EdDSA", "ES256"}, TokenTypes: []string{"at+jwt"},
		StationsClaim: "stations", DefaultActions: []string{"listen"}, AllowedActions: []string{"listen", "download"},
		MaxTTL: 24 * time.Hour, Leeway: 30 * time.Second, MinRefetch: time.Minute, MaxStale: 24 * time.Hour,
	}
}

func defaultWebhook() Webhook { return Webhook{Timeout: 2 * time.Second, CacheTTL: time.Minute} }
