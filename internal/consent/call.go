package consent

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/musenai/musen"
)

// asked is the body of a question.
type asked struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	Decision   string `json:"decision"` // id of this question
	Action     string `json:"action"`
	Station    string `json:"station"`           // its id
	Segment    string `json:"segment,omitempty"` // its CID; absent: the answer is for all of the station
	Subject    string `json:"subject"`
	Credential string `json:"credential"` // its id; for a link that was minted with another credential, that one's
	Kind       string `json:"kind"`       // token, link or session
}

// verdict is what a platform said.
type verdict struct {
	allow bool
	ttl   time.Duration // 0: it did not say
}

// An awayError says that a platform was not reached or did not answer in time,
// unlike one that answered, be it nonsense.
type awayError struct{ cause error }

func (e *awayError) Error() string { return e.cause.Error() }

func (e *awayError) Unwrap() error { return e.cause }

// call asks. What is not a clear yes or no is an error.
func (p *Platform) call(ctx context.Context, q musen.Question) (verdict, error) {
	var random [16]byte
	if _, err := io.ReadFull(p.o.Rand, random[:]); err != nil {
		return verdict{}, fmt.Errorf("make an id: %w", err)
	}
	now := p.o.Now()
	kind, id := q.Grant.Bearer()
	d := data{
		Decision: "dec_" + hex.EncodeToString(random[:]), Action: string(q.Action), Station: q.Station.ID,
		Subject: q.Grant.Subject(), Credential: id, Kind: kind,
	}
	if p.o.PerSegment {
		d.Segment = q.CID.String()
	}
	body, err := json.Marshal(asked{"musen.consent", now.UTC().Truncate(time.Second), d})
	if err != nil {
		return verdict{}, err
	}
	signature, err := p.sign.Sign(d.Decision, now, body)
	if err != nil {
		return verdict{}, errors.New("the question cannot be signed")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.o.URL, bytes.NewReader(body))
	if err != nil {
		return verdict{}, errors.New("its URL cannot be used")
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "musen",
		standardwebhooks.HeaderWebhookID: d.Decision, standardwebhooks.HeaderWebhookSignature: signature,
		standardwebhooks.HeaderWebhookTimestamp: strconv.FormatInt(now.Unix(), 10),
	} {
		r.Header.Set(name, value)
	}
	resp, err := p.o.Client.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return verdict{}, &awayError{err}
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadGateway && resp.StatusCode <= http.StatusGatewayTimeout {
		return verdict{}, &awayError{fmt.Errorf("it answered %d", resp.StatusCode)}
	}
	if resp.StatusCode/100 != 2 {
		return verdict{}, fmt.Errorf("it answered %d", resp.StatusCode)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return verdict{}, &awayError{err}
	}
	return read(b)
}

// read reads an answer: one JSON object with allow, true or false, once, and
// perhaps ttl, a number of seconds.
func read(b []byte) (v verdict, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return verdict{}, errMalformed()
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		key, ok := name.(string)
		if err != nil || !ok || seen[key] {
			return verdict{}, errMalformed()
		}
		seen[key] = true
		if err := v.member(d, key); err != nil {
			return verdict{}, err
		}
	}
	if _, err := d.Token(); err != nil || !seen["allow"] {
		return verdict{}, errMalformed()
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return verdict{}, errMalformed()
	}
	return v, nil
}

// member reads the value of one name.
func (v *verdict) member(d *json.Decoder, key string) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return errMalformed()
	}
	switch key {
	case "allow":
		if string(raw) != "true" && string(raw) != "false" {
			return errMalformed()
		}
		v.allow = string(raw) == "true"
	case "ttl":
		seconds, err := strconv.ParseUint(string(raw), 10, 31)
		if err != nil {
			return errMalformed()
		}
		v.ttl = max(time.Duration(seconds)*time.Second, time.Second)
	}
	return nil
}

func errMalformed() error { return errors.New(`its answer is not like {"allow":true,"ttl":60}`) }
