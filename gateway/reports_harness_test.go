package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

// newArchive makes a catalogue with nothing in it, which takes reports.
func newArchive(t testing.TB) *catalog.Catalog { return archiveAt(t, time.Now) }

func archiveAt(t testing.TB, now func() time.Time) *catalog.Catalog {
	t.Helper()
	aead, err := subtle.NewAESGCM(make([]byte, 32))
	check(t, err)
	c, err := catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalogue.db"), catalog.Options{
		Cipher: aead, Now: now, LookupMAC: func(data []byte) []byte {
			h := hmac.New(sha256.New, []byte("lookup"))
			h.Write(data)
			return h.Sum(nil)
		},
	})
	check(t, err)
	t.Cleanup(func() { check(t, c.Close()) })
	return c
}

// A desk is a site that takes reports, and the catalogue that they are in.
type desk struct {
	*site
	rows    *catalog.Catalog
	station musen.Station
	song    cid.Cid
	secret  string // of a share of the station
}

// newDesk starts a site with one station, one segment and one share.
func newDesk(t testing.TB, change func(*Options)) *desk {
	t.Helper()
	r := newRealm(t)
	d := &desk{rows: archiveAt(t, r.clock.Now)}
	d.site = r.open(hasher(t), func(o *Options) {
		o.Pages.Reports, o.Pages.KeepReports = d.rows, 30*24*time.Hour
		if change != nil {
			change(o)
		}
	})
	d.station = musen.Station{ID: strings.Repeat("a", 26), Name: "jazz", Label: strings.Repeat("b", 16), Epoch: 1, Created: r.clock.Now(), Replication: musen.Replication{Min: 1, Max: 1}}
	check(t, d.rows.CreateStation(t.Context(), d.station))
	s := musen.Segment{
		ID: strings.Repeat("c", 25) + "a", Station: d.station.ID, MediaType: "audio/mpeg", Size: 100, SealedSize: 140, Created: r.clock.Now(),
		CID: alone("a song"), Leaves: []cid.Cid{alone("a song")}, Key: musen.WrappedKey{Generation: 1, Ciphertext: []byte("wrapped")},
	}
	check(t, d.rows.Begin(t.Context(), s))
	check(t, d.rows.Commit(t.Context(), s, nil, nil))
	share, secret, err := musen.NewShare(rand.Reader, d.station)
	check(t, err)
	share.SessionTTL, share.Created = time.Hour, r.clock.Now()
	check(t, d.rows.PutShare(t.Context(), share, secret))
	d.song, d.secret = s.CID, secret
	return d
}

// alone is the CID of a single block that a word makes.
func alone(word string) cid.Cid {
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: 0x12}.Sum([]byte(word))
	if err != nil {
		panic(err)
	}
	return c
}

// report sends a report as a program does, from an address.
func (d *desk) report(address, body string, headers ...string) answer {
	d.t.Helper()
	req, err := http.NewRequest(http.MethodPost, d.url+"/reports", strings.NewReader(body))
	check(d.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", address)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := d.client.Do(req)
	check(d.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res, text, err}
}

// about is the body of a report of that.
func about(what string) string {
	b, _ := json.Marshal(sentReport{what, "other", "no"})
	return string(b)
}

// receiptOf is the receipt in an answer to a program.
func (d *desk) receiptOf(a answer) string {
	d.t.Helper()
	a.want(d.t, http.StatusAccepted, `"state":"received"`)
	var r receiptAnswer
	check(d.t, json.Unmarshal(a.body, &r))
	return r.Receipt
}

// all are the reports that are kept.
func (d *desk) all() []musen.ContentReport {
	d.t.Helper()
	all, _, err := d.rows.ContentReports(d.t.Context(), musen.ReportQuery{Everywhere: true, Limit: 10_000})
	check(d.t, err)
	for i := range all {
		all[i], err = d.rows.ContentReport(d.t.Context(), all[i].ID)
		check(d.t, err)
	}
	return all
}
