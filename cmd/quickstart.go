package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/media"
	"github.com/musenai/musen/testdata/audio"
)

const (
	demoStation = "demo"
	demoTTL     = time.Hour // of the credentials that quickstart prints
)

func (a *app) quickstartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "quickstart", Short: "Start a whole node with a demo station, and show how to listen",
		Long: `quickstart makes a home in a temporary folder, or in the one that --home names, starts a
node on loopback, adds the bundled audio to the station demo, and prints what to type to
hear it. It serves until Ctrl-C, and then removes the temporary folder.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error { return a.quickstart(c.Context()) },
	}
}

func (a *app) quickstart(ctx context.Context) error {
	home, remove, err := a.quickstartHome()
	if err != nil {
		return err
	}
	defer remove()
	n, err := startNode(ctx, serveOptions{home: home, public: "127.0.0.1:0", log: quietLog(a.stderr)})
	if err != nil {
		return err
	}
	if err = a.play(ctx, n, home); err == nil {
		err = n.wait(ctx)
	}
	return errors.Join(err, n.stop())
}

// quickstartHome is the home that --home names, made if it is not there, or a
// temporary one that remove takes away.
func (a *app) quickstartHome() (home string, remove func(), err error) {
	remove = func() {}
	if home = a.home; home != "" {
		home, err = filepath.Abs(home)
	} else if home, err = os.MkdirTemp("", "musen-quickstart-"); err == nil {
		remove = func() { os.RemoveAll(home) }
	}
	if err != nil {
		return "", nil, err
	}
	if _, err := os.Stat(filepath.Join(home, configFile)); err == nil {
		return home, remove, nil
	}
	if _, err := initHome(home, initOptions{}); err != nil {
		remove()
		return "", nil, err
	}
	return home, remove, nil
}

// play fills the demo station and says how to listen to it.
func (a *app) play(ctx context.Context, n *runningNode, home string) error {
	api := client.New(filepath.Join(home, adminSocket))
	defer api.Close()
	if !a.json {
		fmt.Fprintf(a.stdout, "musen %s: a whole node on this machine\nhome    %s\ngateway %s\n\n", version(), home, n.ready.Public)
	}
	if _, err := api.Station(ctx, demoStation); err != nil {
		if _, err := api.CreateStation(ctx, wire.NewStation{Name: demoStation, Description: "The bundled programme"}); err != nil {
			return err
		}
	}
	segments, err := a.addBundled(ctx, api)
	if err != nil {
		return err
	}
	token, err := api.IssueToken(ctx, wire.TokenRequest{Stations: []string{demoStation}, Actions: []string{"listen", "download"}, Subject: "quickstart", TTL: int64(demoTTL / time.Second)})
	if err != nil {
		return err
	}
	c, err := parseCID(segments[0].CID)
	if err != nil {
		return err
	}
	link, err := api.Link(ctx, c, wire.LinkRequest{TTL: int64(demoTTL / time.Second), Subject: "quickstart"})
	if err != nil {
		return err
	}
	return a.printTour(ctx, tour{Gateway: n.ready.Public, Segments: segments, Token: token.Token, Link: link.URL})
}

// addBundled adds the audio that is part of the program.
func (a *app) addBundled(ctx context.Context, api *client.Client) (segments []wire.Added, err error) {
	shown := newBars(a.stderr)
	defer shown.close()
	names, err := fs.Glob(audio.Files(), "[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		added, err := addBundledFile(ctx, api, shown, name)
		if err != nil {
			return nil, fmt.Errorf("add the bundled %s: %w", name, err)
		}
		segments = append(segments, added)
	}
	return segments, nil
}

func addBundledFile(ctx context.Context, api *client.Client, shown *bars, name string) (added wire.Added, err error) {
	f, err := audio.Files().Open(name)
	if err != nil {
		return added, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return added, err
	}
	b := shown.add(name, info.Size())
	defer func() { b.end(err) }()
	return api.Add(ctx, demoStation, client.Upload{
		Audio: &countingReader{r: f, total: info.Size(), bar: b}, Size: info.Size(), Filename: name, AIGenerated: true,
	})
}

// A tour is what quickstart shows; its JSON is one object.
type tour struct {
	Gateway  string       `json:"gateway"`
	Segments []wire.Added `json:"segments"`
	Token    string       `json:"token"`
	Link     string       `json:"link"`
	Refusal  refusalShown `json:"refusal"` // of the same request without a token
}

type refusalShown struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Title  string `json:"title"`
}

func (a *app) printTour(ctx context.Context, t tour) (err error) {
	first := t.Segments[0]
	url := t.Gateway + "/listen/" + first.CID
	if t.Refusal, err = askWithoutToken(ctx, url); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(t)
	}
	table := newTable(a.stdout, "CID", "TITLE", "LENGTH", "SIZE", "TYPE")
	for _, s := range t.Segments {
		appendRow(table, s.CID, s.Title, length(s.DurationMS), size(s.Size), s.MediaType)
	}
	table.Render()
	_, err = fmt.Fprintf(a.stdout, `
Save a segment as playable audio, with a token:

  curl -fsS -o segment%s -H 'Authorization: Bearer %s' %s

Play it in a browser, or with mpv, as it is (the link opens this one segment for an hour):

  %s

The same without a token:

  curl -sS %s
  %d %s (%s)

Serving until Ctrl-C.
`, media.Extension(first.MediaType), t.Token, url, t.Link, url, t.Refusal.Status, t.Refusal.Title, t.Refusal.Code)
	return err
}

// askWithoutToken makes the request that must be refused.
func askWithoutToken(ctx context.Context, url string) (r refusalShown, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return r, err
	}
	resp, err := listenClient().Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	var p problemBody
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p)
	return refusalShown{Status: resp.StatusCode, Code: p.Code, Title: p.Title}, err
}
