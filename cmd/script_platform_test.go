package cmd_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rogpeppe/go-internal/testscript"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// platformSecret signs the questions of the webhook.
const platformSecret = "whsec_9vTzW1l2hKx8mQfYpR4sNc7uJd0aGeBt"

// scriptPlatform is an AI radio's own servers, over TLS: an OpenID provider that
// signs with RS256, and a webhook that says who may listen.
type scriptPlatform struct {
	*httptest.Server
	mu    sync.Mutex
	keys  map[string]*rsa.PrivateKey // published, by kid
	says  string                     // the webhook's answer; "": it hangs up
	asked int
	fault string // what was wrong with a question
}

func (p *scriptPlatform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
	case "/keys":
		set := jose.JSONWebKeySet{}
		for kid, key := range p.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: kid, Use: "sig", Algorithm: "RS256"})
		}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			p.fault = err.Error()
		}
	case "/consent":
		p.consent(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *scriptPlatform) consent(w http.ResponseWriter, r *http.Request) {
	p.asked++
	body, err := io.ReadAll(r.Body)
	hook, hookErr := standardwebhooks.NewWebhook(platformSecret)
	if err == nil && hookErr == nil {
		err = hook.Verify(body, r.Header)
	}
	if err != nil || hookErr != nil || strings.Contains(string(body), "eyJ") {
		p.fault = fmt.Sprintf("a question that cannot be trusted: %v", err)
	}
	if p.says == "" {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, p.says)
}

func platformOf(ts *testscript.TestScript) *scriptPlatform {
	return ts.Value("platform").(*scriptPlatform)
}

// startPlatform starts the servers of a script; ISSUER is their URL.
func startPlatform(e *testscript.Env) {
	p := &scriptPlatform{keys: map[string]*rsa.PrivateKey{}, says: `{"allow":true,"ttl":1}`}
	p.Server = httptest.NewUnstartedServer(p)
	e.Values["platform"] = p
	e.Defer(func() {
		if p.URL != "" {
			p.Close()
		}
	})
}

// cmdPlatform: platform KID...; has the platform publish these keys alone, and
// starts it if need be: sets ISSUER, and writes ca.pem and hook.secret.
func cmdPlatform(ts *testscript.TestScript, _ bool, args []string) {
	p := platformOf(ts)
	if p.URL == "" {
		p.StartTLS()
		ts.Setenv("ISSUER", p.URL)
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o600))
		ts.Check(os.WriteFile(ts.MkAbs("hook.secret"), []byte(platformSecret+"\n"), 0o600))
	}
	keys := map[string]*rsa.PrivateKey{}
	for _, kid := range args {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		ts.Check(err)
		keys[kid] = key
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

// cmdMint: mint NAME KID CLAIMS; a token that the platform signed, its claims
// over those of a good one, becomes an environment variable.
func cmdMint(ts *testscript.TestScript, _ bool, args []string) {
	p := platformOf(ts)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now().Unix()
	claims := map[string]any{"iss": p.URL, "aud": "radio", "sub": "user-7", "jti": "t-" + args[0], "iat": now, "exp": now + 600, "stations": []string{"jazz"}}
	ts.Check(json.Unmarshal([]byte(args[2]), &claims))
	payload, err := json.Marshal(claims)
	ts.Check(err)
	input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"`+args[1]+`","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.keys[args[1]], crypto.SHA256, sum[:])
	ts.Check(err)
	ts.Setenv(args[0], input+"."+base64.RawURLEncoding.EncodeToString(sig))
}

// cmdSays: says ANSWER; what the webhook answers from now on, with none it hangs
// up.
func cmdSays(ts *testscript.TestScript, _ bool, args []string) {
	p := platformOf(ts)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != "" {
		ts.Fatalf("%s", p.fault)
	}
	p.says = strings.Join(args, " ")
}

// cmdConfigure: configure FILE FROM; adds a section to a configuration, with the
// values of environment variables in it. If the section is there, its settings
// go into it.
func cmdConfigure(ts *testscript.TestScript, _ bool, args []string) {
	text, more := ts.ReadFile(args[0]), strings.TrimSpace(os.Expand(ts.ReadFile(args[1]), ts.Getenv))+"\n"
	head, settings, _ := strings.Cut(more, "\n")
	if strings.Contains(text, "\n"+head+"\n") {
		text = strings.Replace(text, "\n"+head+"\n", "\n"+head+"\n"+settings, 1)
	} else {
		text += "\n" + more
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// cmdUntilHTTP: untilhttp STATUS URL [HEADER...]; asks again and again, no more
// often than a player may, until the status is this one; the answer is then in
// the files until and until.head.
func cmdUntilHTTP(ts *testscript.TestScript, _ bool, args []string) {
	for limit := time.Now().Add(awaitLimit); ; {
		req, err := http.NewRequest("GET", args[1], nil)
		ts.Check(err)
		for _, h := range args[2:] {
			name, value, _ := strings.Cut(h, ": ")
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if fmt.Sprint(resp.StatusCode) == args[0] {
			ts.Check(os.WriteFile(ts.MkAbs("until"), body, 0o600))
			ts.Check(os.WriteFile(ts.MkAbs("until.head"), fmt.Appendf(nil, "%v", resp.Header), 0o600))
			return
		} else if time.Now().After(limit) {
			ts.Fatalf("never %s: %s", args[0], resp.Status)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
