package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
)

func (a *app) getCommand() *cobra.Command {
	var gateway, tokenFile, out string
	var force bool
	c := &cobra.Command{
		Use: "get CID --token-file FILE | get LINK", Short: "Fetch a segment through a gateway, as a listener does",
		Long: `get fetches the audio of one segment, by CID with a bearer token or by a link. It goes
on where it was cut, checks the length, and leaves a whole file or a FILE.CID.part that
the next try goes on with. -o - writes to standard output. It follows no redirect.`,
		Args: args("a CID or a link", 1),
		RunE: func(c *cobra.Command, args []string) error {
			d, name, err := a.newDownload(c.Context(), args[0], gateway, tokenFile)
			if err != nil {
				return err
			}
			if out = firstOf(out, name); out == "" {
				return usageError("the link does not say which segment it is for; name a file with -o")
			}
			return a.get(c.Context(), d, out, force)
		},
	}
	c.Flags().StringVar(&gateway, "gateway", "", "the gateway's base URL (default: that of the home's running node)")
	c.Flags().StringVar(&tokenFile, "token-file", "", "a file or a pipe of yours that holds a bearer token; - for standard input")
	c.Flags().StringVarP(&out, "output", "o", "", "where the audio goes; - for standard output (default: the CID)")
	c.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	return c
}

// homeGateway is where listeners reach the running node of the home. A token is
// sent to no other place unless the user names one: where a node that is not
// running would listen, somebody else may.
func (a *app) homeGateway(ctx context.Context) (string, error) {
	const another = "or name another gateway with --gateway"
	home, err := a.homeDir()
	if err != nil {
		return "", err
	}
	cfg, err := loadConfig(home, nil)
	switch {
	case noHome(err):
		return "", usageError("there is no home in %s to ask for its gateway: name one with --gateway, or a home with --home", home)
	case err != nil:
		return "", err
	case !cfg.HasKeys():
		return "", usageError("%s is the home of a host, which has no gateway for listeners: name one with --gateway", home)
	}
	s, err := client.New(cfg.Admin.Socket).Status(ctx)
	switch {
	case errors.Is(err, client.ErrNotRunning) && cfg.Public.BaseURL != "":
		return cfg.Public.BaseURL, nil
	case errors.Is(err, client.ErrNotRunning):
		return "", &failure{exit: exitNoNode, code: "no_node", cause: err, next: "start it with `musen serve`, " + another}
	}
	return s.PublicURL, err
}

// newDownload makes a download of a CID, or of a link, and a name for its file:
// the CID, and for a link that does not name one nothing.
func (a *app) newDownload(ctx context.Context, arg, gateway, tokenFile string) (*download, string, error) {
	d := &download{client: listenClient(), idle: idleLimit, wait: backOff}
	if strings.Contains(arg, "://") {
		u, err := url.Parse(arg)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, "", usageError("the link is not an http or https URL")
		}
		d.url = arg
		if id := listenCID(u.Path); id.Defined() {
			return d, id.String(), nil
		}
		return d, "", nil
	}
	c, err := parseCID(arg)
	if err != nil {
		return nil, "", err
	}
	if tokenFile == "" {
		return nil, "", usageError("get needs --token-file with a CID; `musen token issue` prints a token, `musen link` a link that needs none")
	}
	if d.token, err = a.readToken(ctx, tokenFile); err != nil {
		return nil, "", err
	}
	if gateway == "" {
		if gateway, err = a.homeGateway(ctx); err != nil {
			return nil, "", err
		}
	}
	if d.url, err = url.JoinPath(gateway, "listen", c.String()); err != nil {
		return nil, "", usageError("--gateway %q is not a URL", gateway)
	}
	return d, c.String(), nil
}

// listenClient asks a gateway, and nobody that it redirects to: the credential
// would go along.
func listenClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// readToken reads a bearer token, alone in a file or on standard input.
func (a *app) readToken(ctx context.Context, file string) (string, error) {
	in, err := a.openToken(ctx, file)
	if err != nil {
		return "", &failure{exit: exitUsage, code: "no_file", cause: err, next: "`musen token issue --station S > FILE` makes one; - reads standard input"}
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, 64<<10))
	token := strings.TrimSpace(string(b))
	if err == nil && (token == "" || strings.ContainsAny(token, " \n\r\t")) {
		err = usageError("%s does not hold one bearer token", file)
	}
	return token, err
}

// openToken opens a regular file, or a pipe that nobody else may read, as that of
// a shell's <(...) is. It does not wait for somebody to open the other end.
func (a *app) openToken(ctx context.Context, file string) (io.ReadCloser, error) {
	if file == "-" {
		return untilDone(ctx, a.stdin), nil
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err == nil && info.Mode().IsRegular():
		return f, nil
	case err == nil && isOwnPipe(info):
		return untilDone(ctx, f), nil
	case err == nil:
		err = fmt.Errorf("open %q: it is neither a regular file nor a pipe of yours that nobody else may read (chmod 600)", file)
	}
	f.Close()
	return nil, err
}

func isOwnPipe(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().Type() == os.ModeNamedPipe && info.Mode().Perm()&0o077 == 0 && int(st.Uid) == os.Getuid()
}

func (a *app) get(ctx context.Context, d *download, out string, force bool) (err error) {
	shown := newBars(a.stderr)
	b := shown.add(out, 0)
	d.report = b.set
	if out == "-" {
		err = d.to(ctx, &stream{Writer: a.stdout})
	} else {
		err = d.fetchFile(ctx, out, force)
	}
	b.end(err)
	shown.close()
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if out != "-" && a.json {
		return a.printJSON(map[string]any{"file": out, "size": d.total})
	}
	if out != "-" {
		fmt.Fprintf(a.stderr, "%s  %d bytes\n", printable(out), d.total)
	}
	return nil
}
