package cmd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultGateway is where a node listens that was not told otherwise.
const defaultGateway = "http://127.0.0.1:8420"

func (a *app) getCommand() *cobra.Command {
	var gateway, tokenFile, out string
	c := &cobra.Command{
		Use: "get CID --token-file FILE | get LINK", Short: "Fetch a segment through a gateway, as a listener does",
		Long: `get fetches the audio of one segment, by CID with a bearer token or by a link. It goes
on where it was cut, checks the length, and leaves a whole file or a FILE.part that the
next try goes on with. -o - writes to standard output.`,
		Args: args("a CID or a link", 1),
		RunE: func(c *cobra.Command, args []string) error {
			d, name, err := a.newDownload(args[0], gateway, tokenFile)
			if err != nil {
				return err
			}
			return a.get(c.Context(), d, firstOf(out, name))
		},
	}
	c.Flags().StringVar(&gateway, "gateway", defaultGateway, "the gateway's base URL")
	c.Flags().StringVar(&tokenFile, "token-file", "", "a file that holds a bearer token; - for standard input")
	c.Flags().StringVarP(&out, "output", "o", "", "where the audio goes; - for standard output (default: the CID)")
	return c
}

// newDownload makes a download of a CID, or of a link, and a name for its file.
func (a *app) newDownload(arg, gateway, tokenFile string) (*download, string, error) {
	d := &download{client: &http.Client{Transport: listenTransport()}, wait: backOff}
	if strings.Contains(arg, "://") {
		u, err := url.Parse(arg)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, "", usageError("the link is not an http or https URL")
		}
		d.url = arg
		return d, strings.TrimPrefix(u.Path, "/listen/"), nil
	}
	c, err := parseCID(arg)
	if err != nil {
		return nil, "", err
	}
	if tokenFile == "" {
		return nil, "", usageError("get needs --token-file with a CID; `musen token issue` prints a token, `musen link` a link that needs none")
	}
	if d.token, err = a.readToken(tokenFile); err != nil {
		return nil, "", err
	}
	if d.url, err = url.JoinPath(gateway, "listen", c.String()); err != nil {
		return nil, "", usageError("--gateway %q is not a URL", gateway)
	}
	return d, c.String(), nil
}

// listenTransport waits for an answer, not for ever.
func listenTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 60 * time.Second
	t.DisableCompression = true
	return t
}

// readToken reads a bearer token from the first line of a file.
func (a *app) readToken(file string) (string, error) {
	in, err := io.NopCloser(a.stdin), error(nil)
	if file != "-" {
		in, err = os.Open(file)
	}
	if err != nil {
		return "", &failure{exit: exitUsage, code: "no_file", cause: err, next: "`musen token issue --station S > FILE` makes one"}
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, 64<<10))
	token := strings.TrimSpace(string(b))
	if err == nil && (token == "" || strings.ContainsAny(token, " \n\r\t")) {
		err = usageError("%s does not hold one bearer token", file)
	}
	return token, err
}

func (a *app) get(ctx context.Context, d *download, out string) error {
	shown := newBars(a.stderr)
	b := shown.add(out, 0)
	d.report = b.set
	var total int64
	var err error
	if out == "-" {
		total, err = d.to(ctx, a.stdout, 0)
	} else {
		total, err = d.fetchFile(ctx, out)
	}
	b.end(err)
	shown.close()
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if out != "-" && a.json {
		return a.printJSON(map[string]any{"file": out, "size": total})
	}
	if out != "-" {
		fmt.Fprintf(a.stderr, "%s  %d bytes\n", out, total)
	}
	return nil
}
