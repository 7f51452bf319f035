package pin

import (
	"context"
	"fmt"
	"log/slog"

	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	"github.com/ipfs/go-cid"
	crdtpb "github.com/ipfs/go-ds-crdt/pb"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/ugorji/go/codec"
	"google.golang.org/protobuf/proto"
)

const (
	maxMessage = 64 << 10 // bytes of one message of gossip
	maxHeads   = 1 << 10  // newest states in one message
	maxValue   = 256      // bytes of the value of a metric
)

// headsTopic is where peers of a realm tell the newest state of the pinset,
// named as IPFS Cluster names it: by a hash that does not tell the realm.
func headsTopic(realm string) (string, error) {
	mh, err := multihash.Sum([]byte(clusterName(realm)), multihash.MD5, -1)
	if err != nil {
		return "", fmt.Errorf("name the topic of the pinset: %w", err)
	}
	return mh.B58String(), nil
}

func clusterName(realm string) string { return "musen " + realm }

// newGossip runs until ctx ends. It is a GossipSub of its own: one that numbers
// messages in order, as Kubo's does, loses those that are sent at once. Only
// what a trusted peer signed is taken or passed on, and only on the two topics.
func newGossip(ctx context.Context, d *door, heads string, log *slog.Logger) (*pubsub.PubSub, error) {
	ps, err := pubsub.NewGossipSub(ctx, d,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithPeerExchange(false),
		pubsub.WithFloodPublish(true),
		pubsub.WithMaxMessageSize(maxMessage),
		pubsub.WithPeerOutboundQueueSize(128),
		pubsub.WithValidateQueueSize(128),
		pubsub.WithBlacklist(strangers{d.trust}),
		pubsub.WithPeerFilter(func(p peer.ID, _ string) bool { return d.trust.has(p) }),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(
			pubsub.NewAllowlistSubscriptionFilter(heads, pubsubmon.PubsubTopic), 16)),
		pubsub.WithDefaultValidator(signedBy(d.trust), pubsub.WithValidatorInline(true)),
		pubsub.WithLogger(quieter(log)), pubsub.WithRPCLogger(quieter(log)),
	)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	for topic, v := range map[string]validator{heads: headsOf(d.trust), pubsubmon.PubsubTopic: metricOf(d.trust)} {
		if err := ps.RegisterTopicValidator(topic, v, pubsub.WithValidatorInline(true)); err != nil {
			return nil, fmt.Errorf("guard a topic: %w", err)
		}
	}
	return ps, nil
}

// quieter drops what gossip would say of every stranger that knocks.
func quieter(log *slog.Logger) *slog.Logger {
	return slog.New(levelled{log.Handler(), slog.LevelError})
}

// levelled drops records below a level.
type levelled struct {
	slog.Handler
	least slog.Level
}

// Enabled reports whether l is high enough.
func (h levelled) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.least && h.Handler.Enabled(ctx, l)
}

type validator = func(context.Context, peer.ID, *pubsub.Message) pubsub.ValidationResult

// signedBy takes what a trusted peer signed; who passed it on does not matter.
func signedBy(t *trust) validator {
	return func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if !t.has(m.GetFrom()) {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
}

// metricOf takes metrics that a trusted peer tells of itself.
func metricOf(t *trust) validator {
	return func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		x, err := decodeMetric(m.GetData())
		if err != nil || x.Peer != m.GetFrom() || !t.has(x.Peer) {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
}

// headsOf takes well-formed heads that a trusted peer signed.
func headsOf(t *trust) validator {
	return func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if !t.has(m.GetFrom()) || checkHeads(m.GetData()) != nil {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
}

func checkHeads(b []byte) error {
	var x crdtpb.CRDTBroadcast
	if err := proto.Unmarshal(b, &x); err != nil {
		return err
	}
	if n := len(x.GetHeads()); n == 0 || n > maxHeads {
		return fmt.Errorf("%d heads", n)
	}
	for _, h := range x.GetHeads() {
		c, err := cid.Cast(h.GetCid())
		if err != nil {
			return err
		}
		if p := c.Prefix(); p.MhType != multihash.SHA2_256 || p.Codec != cid.DagProtobuf {
			return fmt.Errorf("head of another kind: %s", c)
		}
	}
	return nil
}

// The metrics that peers tell each other.
const (
	metricPing = "ping"
	metricFree = "freespace"
	metricSite = "tag:site"
)

func decodeMetric(b []byte) (capi.Metric, error) {
	var m capi.Metric
	if err := codec.NewDecoderBytes(b, new(codec.MsgpackHandle)).Decode(&m); err != nil {
		return m, err
	}
	switch {
	case m.Name != metricPing && m.Name != metricFree && m.Name != metricSite:
		return m, fmt.Errorf("metric of unknown name %.32q", m.Name)
	case len(m.Value) > maxValue:
		return m, fmt.Errorf("metric %q has a value of %d bytes", m.Name, len(m.Value))
	case !m.Valid, m.Weight < 0:
		return m, fmt.Errorf("metric %q is not valid", m.Name)
	}
	return m, nil
}

func encodeMetric(m capi.Metric) ([]byte, error) {
	var b []byte
	err := codec.NewEncoderBytes(&b, new(codec.MsgpackHandle)).Encode(m)
	return b, err
}
