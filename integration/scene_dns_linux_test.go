package integration_test

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// nameserver is a DNS server (RFC 1035, over UDP) that knows a few IPv4
// addresses and remembers who asked.
type nameserver struct {
	t         *testing.T
	conn      net.PacketConn
	addresses map[string]netip.Addr // by names that end in a dot

	mu     sync.Mutex
	askers []netip.AddrPort
}

// serveDNS runs a DNS server on port 53 of a host until the test ends.
func (s *scene) serveDNS(h *netlab.Host, addresses map[string]netip.Addr) *nameserver {
	s.t.Helper()
	return s.serveDNSOn(h, ":53", addresses)
}

func (s *scene) serveDNSOn(h *netlab.Host, address string, addresses map[string]netip.Addr) *nameserver {
	s.t.Helper()
	ns := &nameserver{t: s.t, conn: s.packetConn(h, address), addresses: addresses}
	go ns.serve()
	return ns
}

func (ns *nameserver) serve() {
	query := make([]byte, 512)
	for {
		n, from, err := ns.conn.ReadFrom(query)
		if err != nil {
			return
		}
		answer, err := ns.answer(query[:n])
		if err != nil {
			ns.t.Errorf("a DNS query from %s: %v", from, err)
			continue
		}
		ns.mu.Lock()
		ns.askers = append(ns.askers, netip.MustParseAddrPort(from.String()))
		ns.mu.Unlock()
		ns.conn.WriteTo(answer, from)
	}
}

func (ns *nameserver) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		address, known := ns.addresses[q.Name.String()]
		switch {
		case !known:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeAAAA && address.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AAAAResource{AAAA: address.As16()},
			})
		case q.Type == dnsmessage.TypeA && address.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	return m.Pack()
}

// asked lists who has asked, once for each question.
func (ns *nameserver) asked() []netip.AddrPort {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return slices.Clone(ns.askers)
}

// askedBy tells whether a host has asked.
func (ns *nameserver) askedBy(address netip.Addr) bool {
	return slices.ContainsFunc(ns.asked(), func(a netip.AddrPort) bool { return a.Addr() == address })
}

// query is a DNS query for the IPv4 address of a name.
func query(t *testing.T, id uint16, name string) string {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return string(packed)
}
