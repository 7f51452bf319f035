package cmd_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A router has a home network behind it, as home routers do: whoever is inside
// comes out under its address, and nobody comes in who was not called.
type router struct {
	lan     *lan
	name    string
	address string // outside
	inside  string // the first three numbers of addresses there
	homes   int
}

// router adds one.
func (l *lan) router(name string) *router {
	l.t.Helper()
	need(l.t, "nft")
	r := &router{lan: l, name: name}
	r.address, _ = l.machine(name)
	r.inside = fmt.Sprintf("192.168.%d", l.machines)
	r.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	r.run("ip", "link", "add", "home", "type", "bridge")
	r.run("ip", "addr", "add", r.inside+".1/24", "dev", "home")
	r.run("ip", "link", "set", "home", "up")
	r.run("nft", "add table ip r")
	r.run("nft", "add chain ip r out { type nat hook postrouting priority srcnat; }")
	r.run("nft", "add rule ip r out oifname eth0 masquerade")
	for _, hook := range []string{"input", "forward"} {
		r.run("nft", "add chain ip r "+hook+" { type filter hook "+hook+" priority filter; }")
	}
	r.run("nft", "add rule ip r input iifname eth0 drop")
	return r
}

func (r *router) run(line ...string) string {
	r.lan.t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", r.lan.name(r.name)}, line...)...).CombinedOutput()
	if err != nil {
		r.lan.t.Fatalf("router %s: %s: %v\n%s", r.name, strings.Join(line, " "), err, out)
	}
	return string(out)
}

// let counts what comes in from others that were called, and drops the rest.
func (r *router) let(others ...*router) {
	r.lan.t.Helper()
	for _, o := range others {
		r.run("nft", "add rule ip r forward iifname eth0 ip saddr "+o.address+" ct state established counter accept")
	}
	r.run("nft", "add rule ip r forward iifname eth0 ct state established accept")
	r.run("nft", "add rule ip r forward iifname eth0 drop")
}

// came is how many bytes of answers came in from others of let.
func (r *router) came() (bytes int) {
	r.lan.t.Helper()
	var rules struct {
		Nftables []struct {
			Rule struct {
				Expr []struct{ Counter struct{ Bytes int } }
			}
		}
	}
	if err := json.Unmarshal([]byte(r.run("nft", "-j", "list", "chain", "ip", "r", "forward")), &rules); err != nil {
		r.lan.t.Fatal(err)
	}
	for _, x := range rules.Nftables {
		for _, e := range x.Rule.Expr {
			bytes += e.Counter.Bytes
		}
	}
	return bytes
}

// machine adds a machine behind the router.
func (r *router) machine(name string) (address string, wrap []string) {
	l := r.lan
	l.t.Helper()
	r.homes++
	l.namespace(name)
	port := "h-" + name
	l.ip("-n", l.name(r.name), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", l.name(name))
	l.ip("-n", l.name(r.name), "link", "set", port, "master", "home", "up")
	address = fmt.Sprintf("%s.%d", r.inside, 1+r.homes)
	l.ip("-n", l.name(name), "addr", "add", address+"/24", "dev", "eth0")
	l.ip("-n", l.name(name), "link", "set", "eth0", "up")
	l.ip("-n", l.name(name), "route", "add", "default", "via", r.inside+".1")
	return address, []string{"ip", "netns", "exec", l.name(name)}
}

// P81: hosts behind home routers, where nothing was opened, hold copies and
// prove them. Two storage peers behind two routers find each other through the
// origin, and then talk without it: each hears the other's packets directly.
func TestSwarmBehindHomeRouters(t *testing.T) {
	t.Parallel()
	l := newLAN(t, "11.77.0") // inside the test's own namespaces alone; addresses that count as public
	s := l.fleet("MUSEN_NODE_RELAY=true")
	s.musen("station", "create", "jazz", "--replicas", "3..3", "--community", "1")
	r1, r2 := l.router("r1"), l.router("r2")
	r1.let(r2)
	r2.let(r1)
	for _, host := range []struct {
		at    *router
		role  string
		name  string
		flags []string
	}{{r1, "storage", "a", nil}, {r2, "storage", "b", nil}, {r2, "replica", "attic", []string{"--disk", "1GB"}}} {
		address, wrap := host.at.machine(host.name)
		s.joinFrom(wrap, address, host.role, host.name, host.flags...)
	}
	song := s.airDurable(bundled(t)[0])
	names := s.health(song.CID).proved()
	slices.Sort(names)
	if want := []string{"a", "attic", "b", "origin"}; !slices.Equal(names, want) {
		t.Errorf("proved by %v, want %v", names, want)
	}
	s.until("the two storage peers talk to each other", func() bool { return r1.came() > 10_000 && r2.came() > 10_000 })
}
