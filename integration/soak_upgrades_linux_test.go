//go:build soak

package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// soakUpgrades upgrades Caddy beside load, and then often without. Nothing may be lost, and nothing
// may pile up.
func soakUpgrades(t *testing.T, datapath string) []figure {
	s, idle := startToUpgrade(t, datapath, withChat)
	s.serveWebSocket("192.168.50.1:9002", "a")
	datagrams := s.sendNumbered(10000)
	stream := s.startStream()
	stopConnecting, chat := s.connectAgainAndAgain("192.168.1.2:80"), s.keepChatting("/chat")
	time.Sleep(2 * time.Second)
	datagrams.mu.Lock()
	usual := datagrams.pause
	datagrams.pause = 0
	datagrams.mu.Unlock()
	loaded := max(soaked(20), 1)
	for range loaded {
		s.upgrade()
		idle.want("an upgrade")
	}
	connected, chats := stopConnecting(), chat.end()
	lost, arrived := datagrams.end()
	if lost > 0 {
		t.Errorf("%d datagrams were lost", lost)
	}
	stream.finish()

	before, tables := s.countLeaks(), s.guardTables()
	more := max(soaked(80), 1)
	for range more {
		s.upgrade()
	}
	idle.want("many upgrades")
	var after leaks
	s.waitFor("descriptors, BPF maps and goroutines are as few as before: "+before.String(), func() bool {
		after = s.countLeaks()
		return after.within(before)
	})
	if now := s.guardTables(); now != tables {
		t.Errorf("there are %d tables of nftables, and %d before", now, tables)
	}
	return []figure{
		{"upgrades beside load", fmt.Sprint(loaded)},
		{"datagrams of one flow beside them, lost", fmt.Sprintf("%d of %d", lost, arrived.once)},
		{"the longest pause between two of them; before the upgrades", fmt.Sprintf("%v; %v", rounded(datagrams.pause), rounded(usual))},
		{"new connections to a site of Caddy's, refused or reset", fmt.Sprintf("0 of %d", connected)},
		{"open connections to another server lost", "0 of 2"},
		{"WebSockets through a site of Caddy's", chats.String()},
		{"after these", before.String()},
		{fmt.Sprintf("after %d more", more), after.String()},
	}
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// guardTables counts our tables of nftables on the server.
func (s *scene) guardTables() int {
	s.t.Helper()
	return strings.Count(s.stdout(s.Server, "nft", "list", "tables"), "caddy-vnic-")
}
