package gateway

import (
	"cmp"
	"net/http"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/policy"
)

// bearerOf is whose credential g is, as it is watched.
func bearerOf(g policy.Grant) watch.Bearer {
	return watch.Bearer{Credential: cmp.Or(g.Session(), g.ID()), Subject: g.Subject(), Session: g.Session() != ""}
}

// watchUse notes that a credential was good. Of a crowd it is not known whether
// it is one network or many.
func (s *Server) watchUse(who client, g policy.Grant) {
	if !who.crowd {
		s.o.Watch.Used(bearerOf(g), watch.Client{Name: who.name, Key: who.key})
	}
}

// watchRefusal notes that a client was refused.
func (s *Server) watchRefusal(who client, status int) {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests:
		if !who.crowd {
			s.o.Watch.Refused(watch.Client{Name: who.name, Key: who.key})
		}
	}
}

// usualRate is how many bytes a second of audio has where its headers do not
// tell.
const usualRate = 16_000

// playingTime is about how long sent bytes of a segment play.
func playingTime(segment musen.Segment, sent int64) time.Duration {
	if sent <= 0 || segment.Size <= 0 {
		return 0
	}
	whole := segment.Duration
	if whole <= 0 {
		whole = time.Duration(float64(segment.Size) / usualRate * float64(time.Second))
	}
	return time.Duration(float64(whole) * float64(sent) / float64(segment.Size))
}

// report notes how much audio was sent, whichever way the answer ended.
func (p *playback) report() {
	p.server.o.Watch.Heard(bearerOf(p.grant), playingTime(p.segment, p.sent))
}
