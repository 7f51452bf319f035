package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/ipfs/kubo/plugin"
	flatfsplugin "github.com/ipfs/kubo/plugin/plugins/flatfs"
	"github.com/ipfs/kubo/repo/fsrepo"
)

const (
	lockFile  = "node.lock"
	blocksDir = "blocks"
	metaDir   = "datastore"
)

// Init makes a new node in dir, with an identity of its own, and returns its
// peer ID. All of it is durable on return and readable by its owner alone. A
// folder that has a node already is refused with an error that wraps
// fs.ErrExist.
func Init(dir string) (peerID string, err error) {
	if peerID, err = initRepo(dir); err != nil {
		return "", fmt.Errorf("init node %q: %w", dir, err)
	}
	return peerID, nil
}

func initRepo(dir string) (string, error) {
	if err := registerOnce(); err != nil {
		return "", err
	}
	if fsrepo.IsInitialized(dir) {
		return "", fs.ErrExist
	}
	id, err := config.CreateIdentity(io.Discard, []options.KeyGenerateOption{options.Key.Type(options.Ed25519Key)})
	if err != nil {
		return "", err
	}
	cfg, err := config.InitWithIdentity(id)
	if err != nil {
		return "", err
	}
	quiet(cfg)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return "", err
	}
	if err := fsrepo.Init(dir, cfg); err != nil {
		return "", err
	}
	if err := makeBlocksDir(filepath.Join(dir, blocksDir)); err != nil {
		return "", err
	}
	return id.PeerID, syncAll(dir)
}

// makeBlocksDir makes the folder of flatfs with all its shards, durably.
// flatfs makes a shard when the first block of it comes, and a second block
// that comes at that moment does not wait until the shard is durable; nor does
// it sync the file that describes its layout.
func makeBlocksDir(dir string) error {
	if err := flatfs.Create(dir, flatfs.IPFS_DEF_SHARD); err != nil {
		return err
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	for _, a := range letters {
		for _, b := range letters {
			if err := os.Mkdir(filepath.Join(dir, string([]rune{a, b})), 0o700); err != nil {
				return err
			}
		}
	}
	return syncAll(dir)
}

// quiet turns off all that reaches out or listens by itself: the node talks
// only to peers that it is told of, or that connect to it. Blocks are hashed
// when they are read through Kubo, that is, wherever they leave the machine.
func quiet(c *config.Config) {
	c.Addresses.API, c.Addresses.Gateway = nil, nil
	c.Addresses.Swarm = []string{"/ip4/127.0.0.1/tcp/0"}
	c.Bootstrap = nil
	c.Discovery.MDNS.Enabled = false
	c.AutoConf.Enabled = config.False
	c.DNS.Resolvers = map[string]string{}
	c.Routing.Type = config.NewOptionalString("none")
	c.Routing.DelegatedRouters = nil
	c.Ipns.DelegatedPublishers = nil
	c.Provide.Enabled = config.False
	c.HTTPRetrieval.Enabled = config.False
	c.AutoTLS.Enabled, c.AutoTLS.AutoWSS = config.False, config.False
	c.AutoNAT.ServiceMode = config.AutoNATServiceDisabled
	c.Pubsub.Enabled = config.False
	quietSwarm(&c.Swarm)
	// Every connected peer is asked for a block, not only those that sent some.
	c.Internal.Bitswap = &config.InternalBitswap{
		BroadcastControl: &config.BitswapBroadcastControl{Enable: config.False},
	}

	c.Datastore.Spec = datastoreSpec()
	c.Datastore.HashOnRead = true
	// Every Put writes, so that it replaces a rotten copy, and no cache of
	// names outlives the file that it names.
	c.Datastore.WriteThrough = config.True
	c.Datastore.BlockKeyCacheSize = *config.NewOptionalInteger(0)
	c.Datastore.BloomFilterSize = 0
}

func quietSwarm(s *config.SwarmConfig) {
	s.DisableNatPortMap = true
	s.DisableBandwidthMetrics = true
	s.EnableHolePunching = config.False
	s.RelayClient.Enabled = config.False
	s.RelayService.Enabled = config.False
	s.Transports.Network.Relay = config.False
	s.Transports.Network.Websocket = config.False
	s.Transports.Network.WebTransport = config.False
	s.Transports.Network.WebRTCDirect = config.False
}

// datastoreSpec has blocks in one file each, synced with their folder before
// Put returns, and everything else in LevelDB.
func datastoreSpec() map[string]any {
	return map[string]any{"type": "mount", "mounts": []any{
		map[string]any{"mountpoint": "/blocks", "type": "flatfs", "path": blocksDir,
			"sync": true, "shardFunc": flatfs.IPFS_DEF_SHARD_STR},
		map[string]any{"mountpoint": "/", "type": metaType, "path": metaDir},
	}}
}

// registerOnce guards fsrepo's table of datastores, which is process-wide and
// refuses a second registration, and Kubo's list of fx options.
var registerOnce = sync.OnceValue(func() error {
	core.RegisterFXOptionFunc(withOwnBitswap)
	for _, p := range flatfsplugin.Plugins {
		d, ok := p.(plugin.PluginDatastore)
		if !ok {
			continue
		}
		if err := fsrepo.AddDatastoreConfigHandler(d.DatastoreTypeName(), d.DatastoreConfigParser()); err != nil {
			return err
		}
	}
	return fsrepo.AddDatastoreConfigHandler(metaType, parseMetaConfig)
})

// lockDir takes the folder for one Node. The lock goes with the process.
func lockDir(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// syncAll makes a folder, the files in it, and its name in its parent durable.
func syncAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if err := syncPath(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := syncPath(dir); err != nil {
		return err
	}
	return syncPath(filepath.Dir(dir))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
