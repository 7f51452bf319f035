package cmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
)

func (a *app) lsCommand() *cobra.Command {
	var station string
	c := &cobra.Command{
		Use: "ls [STATION]", Short: "List the segments of a station, or of all", Args: atMost("one station"),
		RunE: func(c *cobra.Command, args []string) error {
			if station != "" && len(args) > 0 {
				return usageError("give one station, as %q or with --station", args[0])
			}
			if station != "" {
				args = []string{station}
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				stations, err := api.Stations(c.Context())
				if err != nil {
					return err
				}
				for _, s := range stations {
					args = append(args, s.ID)
				}
			}
			t := newTable(a.stdout, "CID", "STATION", "TITLE", "LENGTH", "SIZE", "TYPE", "CREATED")
			for _, station := range args {
				for s, err := range api.Segments(c.Context(), station) {
					if err != nil {
						return noStation(err, station)
					}
					if a.json {
						if err := a.printJSON(s); err != nil {
							return err
						}
						continue
					}
					appendRow(t, s.CID, s.StationName, s.Title, length(s.DurationMS), size(s.Size), s.MediaType, when(s.Created))
				}
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
	c.Flags().StringVar(&station, "station", "", "the same as STATION")
	return c
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show CID", Short: "Show one segment", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.Segment(c.Context(), id)
			if err != nil {
				return noSegment(err, id)
			}
			return a.printSegment(s)
		},
	}
}

func (a *app) printSegment(s wire.Segment) error {
	if a.json {
		return a.printJSON(s)
	}
	ai := ""
	if s.AIGenerated {
		ai = "yes"
	}
	a.printFields([][2]string{
		{"cid", s.CID}, {"segment", s.Segment}, {"station", s.StationName}, {"title", s.Title}, {"artist", s.Artist},
		{"type", s.MediaType}, {"length", length(s.DurationMS)}, {"size", size(s.Size) + " (" + strconv.FormatInt(s.Size, 10) + " bytes)"},
		{"sealed", strconv.FormatInt(s.SealedSize, 10) + " bytes"}, {"ai generated", ai},
		{"created", when(s.Created)}, {"publish at", when(s.PublishAt)}, {"expires at", when(s.ExpiresAt)}, {"taken down", s.Takedown},
	}...)
	return nil
}

func (a *app) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove CID", Short: "Unpin and forget a segment, and destroy its key", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			if err := api.RemoveSegment(ctx, id); err != nil {
				return noSegment(err, id)
			}
			const note = "its key is destroyed: ciphertext that others still hold can never be opened. Audio that a listener has saved cannot be recalled."
			if a.json {
				return a.printJSON(removal{id.String(), note, reach.Told()})
			}
			fmt.Fprintf(a.stdout, "removed %s%s\n%s\n", id, reached(reach.Told()), note)
			return nil
		},
	}
}

func (a *app) linkCommand() *cobra.Command {
	var req wire.LinkRequest
	var ttl time.Duration
	c := &cobra.Command{
		Use: "link CID", Short: "Print a URL that plays one segment until it expires", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if req.TTL, err = seconds(c, "ttl", ttl); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			link, err := api.Link(c.Context(), id, req)
			if err != nil {
				return noSegment(err, id)
			}
			if a.json {
				return a.printJSON(link)
			}
			fmt.Fprintln(a.stdout, link.URL)
			return nil
		},
	}
	c.Flags().Var((*period)(&ttl), "ttl", "how long the link opens the segment, such as 10m or 1d (default: the configuration's link_ttl, 5m)")
	c.Flags().BoolVar(&req.Download, "download", false, "the link may also save the segment, where the station allows downloads")
	c.Flags().StringVar(&req.Subject, "subject", "", "whom the link is for; revoking the subject ends it")
	return c
}

// seconds reads a lifetime; one that was not given is 0.
func seconds(c *cobra.Command, flag string, d time.Duration) (int64, error) {
	if c.Flags().Changed(flag) && d < time.Second {
		return 0, usageError("--%s must be at least 1s", flag)
	}
	return int64(d / time.Second), nil
}

func (a *app) verifyCommand() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use: "verify [CID...]", Short: "Read segments back: check every block, open every chunk",
		Long: "verify reads every block of the named segments, or of all, from the disk, checks its hash and opens every chunk.\nWith --repair blocks that are wrong or missing are replaced by those of peers first. It exits with 7 if anything\nis damaged, or still is.",
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := parseCIDs(args)
			if err != nil {
				return err
			}
			return a.verify(c, ids, repair)
		},
	}
	c.Flags().BoolVar(&repair, "repair", false, "take good blocks from peers for those that are damaged")
	return c
}

func (a *app) verify(c *cobra.Command, ids []cid.Cid, repair bool) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	results, next := api.Verify, "try `musen verify --repair`, which takes good blocks from peers; otherwise add the damaged segments again from their source; and check the disk"
	if repair {
		results, next = api.Repair, "what kept it from being mended stands above. If no peer has a block, add the damaged segments again from their source, and check the disk"
	}
	var sound, damaged, mended, bytes int64
	for v, err := range results(c.Context(), ids...) {
		if err != nil {
			return err
		}
		mended += int64(v.Mended)
		if bytes += v.Bytes; v.OK {
			sound++
		} else {
			damaged++
		}
		if a.json {
			err = a.printJSON(v)
		} else {
			err = a.printVerified(v)
		}
		if err != nil {
			return err
		}
	}
	if !a.json {
		fmt.Fprintf(a.stdout, "%s sound, %d damaged, %s of audio opened\n", several(sound, "segment"), damaged, size(bytes))
		if repair {
			fmt.Fprintf(a.stdout, "%s replaced by those of peers\n", several(mended, "block"))
		}
	}
	if damaged > 0 {
		return &failure{exit: exitDamaged, code: "damaged", cause: errors.New("some segments are damaged"), next: next}
	}
	return nil
}

// printVerified writes what is to be said of one segment.
func (a *app) printVerified(v wire.Verified) (err error) {
	if v.Mended > 0 {
		_, err = fmt.Fprintf(a.stdout, "mended   %s  %s\n", printable(v.CID), several(int64(v.Mended), "block"))
	}
	if err == nil && !v.OK {
		_, err = fmt.Fprintf(a.stdout, "damaged  %s  %s\n", printable(v.CID), printable(strings.ReplaceAll(v.Error, "\n", "; ")))
	}
	return err
}

func (a *app) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use: "gc", Short: "Remove blocks that no segment needs", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.GC(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			fmt.Fprintf(a.stdout, "removed %s, %s\n", several(int64(r.Removed), "block"), size(r.Freed))
			return nil
		},
	}
}
