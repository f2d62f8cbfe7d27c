package integration_test

import (
	"io"
	"net"
	"strings"
	"testing"
)

// Rows L4 and L5: reloads that give a segment another name, device or address, or
// the bridge another NIC. What stays keeps its connections, and what goes leaves
// nothing.
func TestReloadReshapes(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newTwoLANs(t, false)
		before := s.snapshot()
		first := caddyfile{datapath: datapath, a: "ports any"}
		s.start(first)
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.2:9000")
		session.want("the start")
		original := first.String()
		onB := strings.Replace(original, "first a", "first b", 1)
		secondNIC := strings.NewReplacer(
			"nic nic0", "nic nic1", "192.168.1.2/24", "192.168.2.2/24", "gateway 192.168.1.1", "gateway 192.168.2.1")
		for _, change := range []struct {
			name, config string
			page         string
		}{
			{"another address", strings.ReplaceAll(onB, "192.168.60.1", "192.168.61.1"), "b"},
			{"another device", strings.ReplaceAll(onB, "vnic-B", "vnic-X"), "b"},
			{"another name", strings.NewReplacer("segment b", "segment c", "first b", "first c", "vnic/b", "vnic/c").Replace(onB), "b"},
			{"the first again", original, "a"},
		} {
			s.wantLoaded(change.config)
			if got := s.get("http://192.168.1.2/"); got != change.page {
				t.Errorf("%s: PC1 got %q, want %q", change.name, got, change.page)
			}
			session.want(change.name)
			if links := s.ip(s.Server, "-o link"); strings.Count(links, ": vnic-")-strings.Count(links, ": vnic-slow") != 2 {
				t.Errorf("%s: there are more devices than two segments need:\n%s", change.name, links)
			}
		}

		s.wantLoaded(secondNIC.Replace(original))
		if got := s.getFrom(s.PC2, "http://192.168.2.2/"); got != "a" {
			t.Errorf("by the other NIC PC2 got %q", got)
		}
		s.wantSilence(s.PC1, "192.168.1.2:80")
		s.wantLoaded(original)
		s.wantService()
		s.stop()
		s.wantSame("after stop", before)
	})
}

func (s *scene) wantLoaded(config string) {
	s.t.Helper()
	if answer, err := s.postText(config); err != nil || answer != "" {
		s.t.Fatalf("POST /load: %q (%v)", answer, err)
	}
}
