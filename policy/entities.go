package policy

import (
	"math"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
)

// Entity types of the schema.
const (
	typeAction  cedar.EntityType = "Action"
	typeNode    cedar.EntityType = "Node"
	typeStation cedar.EntityType = "Station"
	typeSegment cedar.EntityType = "Segment"
	typeUser    cedar.EntityType = "User"
	typeService cedar.EntityType = "Service"
	typeHost    cedar.EntityType = "Host"
	typeGuest   cedar.EntityType = "Guest"
)

// principalEntity is the bearer of c, who holds roles, as the schema describes
// it.
func principalEntity(c *credential, roles RoleSet) cedar.Entity {
	attributes := cedar.RecordMap{
		"actions":    textSet(c.actions.words()),
		"stations":   stationSet(c.stations),
		"everywhere": cedar.Boolean(c.everywhere),
		"roles":      textSet(roles.Words()),
	}
	uid := cedar.NewEntityUID(typeUser, cedar.String(c.subject))
	switch {
	case c.kind == kindLink || c.kind == kindSession:
		uid = cedar.NewEntityUID(typeGuest, cedar.String(c.id))
		attributes["epoch"] = long(c.epoch)
	case c.kind == kindToken && strings.HasPrefix(c.subject, "service:"):
		uid.Type = typeService
	case c.kind == kindToken && strings.HasPrefix(c.subject, "host:"):
		uid.Type = typeHost
	}
	return cedar.Entity{UID: uid, Attributes: cedar.NewRecord(attributes)}
}

// entities are those of one request, and the actions.
type entities struct {
	few     []cedar.Entity
	actions cedar.EntityMap
}

// Get implements cedar.EntityGetter.
func (e entities) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	for _, entity := range e.few {
		if entity.UID == uid {
			return entity, true
		}
	}
	return e.actions.Get(uid)
}

// resourceEntities are what q is about, and what that is in: the first is in
// the second, and so on. All segments of a station are one here.
func resourceEntities(q question) []cedar.Entity {
	node := cedar.Entity{UID: cedar.NewEntityUID(typeNode, "")}
	if q.station == "" {
		return []cedar.Entity{node}
	}
	station := cedar.Entity{
		UID:     cedar.NewEntityUID(typeStation, cedar.String(q.station)),
		Parents: cedar.NewEntityUIDSet(node.UID),
		Attributes: cedar.NewRecord(cedar.RecordMap{
			"name":      cedar.String(q.name),
			"downloads": cedar.Boolean(q.downloads),
			"epoch":     long(q.epoch),
		}),
	}
	if !q.segment {
		return []cedar.Entity{station, node}
	}
	segment := station
	segment.UID = cedar.NewEntityUID(typeSegment, "")
	segment.Parents = cedar.NewEntityUIDSet(station.UID)
	return []cedar.Entity{segment, station, node}
}

// noFactor is how many minutes ago whoever never showed a second factor did.
const noFactor = 1_000_000_000

// circumstances are those of a request as the schema describes them. Where no
// policy asks for them, q knows neither time nor region.
func circumstances(c *credential, q question, zone *time.Location) cedar.Record {
	at := time.Unix(q.minute*60, 0)
	local := at.In(zone)
	since := int64(noFactor)
	if !c.factor.IsZero() {
		since = max(0, q.minute-floorMinute(c.factor))
	}
	return cedar.NewRecord(cedar.RecordMap{
		"action":     cedar.String(q.action),
		"credential": cedar.String(c.kind),
		"now":        cedar.NewDatetime(at),
		"hour":       cedar.Long(local.Hour()),
		"weekday":    cedar.String(strings.ToLower(local.Weekday().String())),
		"region":     cedar.String(q.region),
		"mfaMinutes": cedar.Long(since),
	})
}

func textSet(words []string) cedar.Set {
	values := make([]cedar.Value, 0, len(words))
	for _, w := range words {
		values = append(values, cedar.String(w))
	}
	return cedar.NewSet(values...)
}

func stationSet(ids []string) cedar.Set {
	values := make([]cedar.Value, 0, len(ids))
	for _, id := range ids {
		values = append(values, cedar.NewEntityUID(typeStation, cedar.String(id)))
	}
	return cedar.NewSet(values...)
}

// long spells an epoch. Those that Cedar has no number for equal no link's.
func long(epoch uint64) cedar.Long {
	if epoch > math.MaxInt64 {
		return -1
	}
	return cedar.Long(epoch)
}
