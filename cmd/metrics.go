package cmd

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/musenai/musen/gateway"
	"github.com/musenai/musen/internal/alert"
	"github.com/musenai/musen/internal/watch"
)

// serveMetrics opens the metrics listener if one is configured.
func (n *runningNode) serveMetrics() error {
	if n.cfg.Metrics.Address == "" {
		return nil
	}
	l, err := listenTCP("metrics", n.cfg.Metrics.Address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry(), promhttp.HandlerOpts{}))
	n.metrics = metricsServer(mux, 10*time.Second)
	n.ready.Metrics = "http://" + l.Addr().String() + "/metrics"
	n.serve(func() error {
		if err := n.metrics.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// metricsServer serves the metrics to who sends a whole request within a time,
// and the next one within the same.
func metricsServer(h http.Handler, within time.Duration) *http.Server {
	return &http.Server{
		Handler: onlyLocal(h), ReadTimeout: within, WriteTimeout: 3 * within,
		ErrorLog: log.New(io.Discard, "", 0), // it names addresses
	}
}

// onlyLocal answers requests to a name of this machine alone, so that a web
// page cannot have its own name point here and read the figures.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.Unmap().IsLoopback()) {
			http.Error(w, "ask for the metrics by a name of this machine, such as 127.0.0.1", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// registry is what the node tells of itself. No figure is about a person.
func (n *runningNode) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "musen", Name: name, Help: help}, value)
	}
	r.MustRegister( // panics only if two of these share a name
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("repo_bytes", "Bytes that blocks take on disk.", func() float64 {
			st, err := n.node.Stat()
			if err != nil {
				return -1
			}
			return float64(st.Used)
		}),
		gauge("revocations_known", "1 while it is known what was revoked of late; 0: nobody is let in.", func() float64 {
			if n.rows.Current() != nil {
				return 0
			}
			return 1
		}),
		gauge("disk_free_bytes", "Bytes free on the disk of the blocks.", func() float64 {
			st, err := n.node.Stat()
			if err != nil {
				return -1
			}
			return float64(st.Free)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "musen", Name: "reports_not_kept_total", Help: "New reports that there was no room for.",
		}, func() float64 { return float64(n.rows.ReportsNotKept()) }),
		responses{n.public}, alerts{n.watch, n.alarm.sender},
	)
	return r
}

// responses counts the answers of the public listener.
type responses struct{ public *gateway.Server }

// Describe implements prometheus.Collector.
func (r responses) Describe(to chan<- *prometheus.Desc) { to <- r.desc() }

// Collect implements prometheus.Collector.
func (r responses) Collect(to chan<- prometheus.Metric) {
	for _, c := range r.public.Counts() {
		to <- prometheus.MustNewConstMetric(r.desc(), prometheus.CounterValue, float64(c.N), // panics only for a wrong number of labels
			c.Route, strconv.Itoa(c.Status), c.Code, c.Limit)
	}
}

func (r responses) desc() *prometheus.Desc {
	return prometheus.NewDesc("musen_responses_total", "Answers of the public listener, by route, status, code of the refusal and limit that was exceeded.",
		[]string{"route", "status", "code", "limit"}, nil)
}

// alerts counts anomalies, and the calls about them.
type alerts struct {
	watch  *watch.Watch
	sender *alert.Sender // nil: there are no calls
}

// Describe implements prometheus.Collector.
func (a alerts) Describe(to chan<- *prometheus.Desc) {
	to <- a.found()
	to <- a.calls()
}

// Collect implements prometheus.Collector.
func (a alerts) Collect(to chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, label string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label) // panics only for a wrong number of labels
	}
	for _, r := range watch.Rules() {
		count(a.found(), a.watch.Count(r), string(r))
	}
	if a.sender != nil {
		sent, lost, _ := a.sender.Counts()
		count(a.calls(), sent, "taken")
		count(a.calls(), lost, "lost")
	}
}

func (a alerts) found() *prometheus.Desc {
	return prometheus.NewDesc("musen_anomalies_total", "How often what looks like abuse was found, by rule.", []string{"rule"}, nil)
}

func (a alerts) calls() *prometheus.Desc {
	return prometheus.NewDesc("musen_alert_calls_total", "Calls about anomalies, by what became of them.", []string{"outcome"}, nil)
}
