package vnicbridge

import (
	"testing"
)

// Row N5: clients are offered only what every server has accepted, and a server gets only what its
// client has been offered. When the server changes, so does the offer.
func TestServersThatRefuseOptions(t *testing.T) {
	for name, without := range map[string]func(*tcpSegment){
		"SACK":       func(s *tcpSegment) { s.permitted = false },
		"timestamps": func(s *tcpSegment) { s.times = nil },
	} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				port := uint16(4000)
				// connect opens a connection and tells whether the client was offered the option, and
				// whether the server has got it.
				connect := func(request, segment string, refuses bool) (offered, got bool) {
					t.Helper()
					port++
					c := r.talk(o, port)
					if refuses {
						without(&c.accepts)
					}
					c.greet().sends(c.says(0, request))
					has := func(s tcpSegment) bool {
						if name == "SACK" {
							return s.permitted
						}
						return s.times != nil
					}
					offered, got = has(c.offer), has(c.asksForSegment(segment))
					c.clientSeq += uint32(len(request))
					if delivered := payloads(c.accept()); delivered != request {
						t.Errorf("the server gets %q, want %q", delivered, request)
					}
					c.wantsToGoOn()
					return offered, got
				}
				const other = "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"
				for _, step := range []struct {
					request, segment     string
					refuses, offers, got bool
				}{
					{headOfA, "a", true, true, true},
					{headOfA, "a", true, false, true},
					{other, "b", true, false, false},
					{headOfA, "a", false, false, true}, // it has changed its mind
					{other, "b", false, true, true},
				} {
					if offers, got := connect(step.request, step.segment, step.refuses); offers != step.offers || got != step.got {
						t.Errorf("port %d: the client is offered it: %t, want %t; the server gets it: %t, want %t", port, offers, step.offers, got, step.got)
					}
				}
			})
		})
	}
}
