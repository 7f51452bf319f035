package cmd

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/config"
)

// P92: each report that waits for too long is told once, and what was closed
// long ago goes. What was said is in neither the log nor the call.
func TestReportsThatWaitAreTold(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	sender, told := newReceiver(t, log)
	rows := newRows(t)
	station := strings.Repeat("a", 26)
	put := func(id, category string) {
		_, _, err := rows.PutReport(t.Context(), musen.NewReport{
			ID: strings.Repeat(id, 25) + "a", Station: station, Category: musen.ReportCategory(category), Reporter: "pseudonym", Text: "what was said",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("b", "hate")
	put("c", "other")
	ahead := time.Duration(0)
	timer := &reportTimer{
		rows: rows, cfg: config.Reports{ReviewWithin: 24 * time.Hour, Keep: 180 * 24 * time.Hour}, sender: sender, log: log,
		now: func() time.Time { return time.Now().Add(ahead) },
	}
	look := func(after time.Duration) {
		t.Helper()
		ahead = after
		if err := timer.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look(23 * time.Hour)
	if strings.Contains(text.String(), "waits") {
		t.Errorf("too early: %s", text.String())
	}
	for range 3 {
		look(25 * time.Hour)
	}
	for range 2 {
		got := <-told
		if got["category"] != "hate" && got["category"] != "other" || !strings.HasSuffix(got["report"].(string), "a") || got["created"] == "" {
			t.Errorf("told %v", got)
		}
	}
	if n := strings.Count(text.String(), "a report waits for too long"); n != 2 || len(told) != 0 || strings.Contains(text.String(), "what was said") {
		t.Errorf("%d times in the log, %d more calls: %s", n, len(told), text.String())
	}
	if err := rows.CloseReport(t.Context(), strings.Repeat("b", 25)+"a", musen.ReportDismissed, "mod", "x"); err != nil {
		t.Fatal(err)
	}
	look(181 * 24 * time.Hour)
	if !strings.Contains(text.String(), "closed reports were purged\" reports=1") {
		t.Errorf("log: %s", text.String())
	}
}
