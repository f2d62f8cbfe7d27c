//go:build soak

package integration_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// soakRestarts restarts Caddy, and kills it, beside load, while a service manager keeps its files. Nothing
// may be lost, and nothing may pile up. On the userspace path nothing is kept.
func soakRestarts(t *testing.T, datapath string) (figures []figure) {
	if datapath == "userspace" {
		return []figure{{"restarts", "interrupt connections: nothing is kept"}}
	}
	figures = soakEnds(t, "restart", max(soaked(20), 1))
	return append(figures, soakEnds(t, "kill", max(soaked(5), 1))...)
}

// withChat is a site on segment a that has a server of WebSockets behind it.
const withChat = "http:// {\nbind vnic/a\nhandle /chat {\nreverse_proxy 192.168.50.1:9002\n}\nhandle {\nrespond a\n}\n}\n"

// soakEnds ends Caddy in one way, and starts the next one.
func soakEnds(t *testing.T, name string, times int) []figure {
	config := toRestart
	config.sites = withChat
	m, idle := startToRestart(t, config)
	s := m.s
	s.serveHTTP(s.Server, "192.168.50.1:9001", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a") }))
	s.serveWebSocket("192.168.50.1:9002", "a")
	before, files, tables := s.countLeaks(), m.count(), s.guardTables()
	datagrams, stream := s.sendNumbered(10000), s.startStream()
	others, sites, chat := s.keepConnecting("192.168.1.2:9001"), s.keepConnecting("192.168.1.2:80"), s.keepChatting("/chat")
	var away time.Duration
	for range times {
		began := time.Now()
		restarts[name](m)
		m.start(config)
		away = max(away, time.Since(began))
		idle.want("a " + name)
	}
	connected, asked, chats := others.end(), sites.end(), chat.end()
	lost, arrived := datagrams.end()
	stream.finish()
	if lost > 0 || connected.failed() > 0 {
		t.Errorf("%d datagrams were lost, and of connections to a server that is not Caddy's %s", lost, connected)
	}
	if name == "restart" && asked.failed() > 0 || asked.refused > 0 {
		t.Errorf("of connections to a site %s", asked)
	}
	var after leaks
	s.waitFor("as many descriptors, BPF maps, goroutines, files and tables as before: "+before.String(), func() bool {
		after = s.countLeaks()
		return after.within(before) && m.count() == files && s.guardTables() == tables
	})
	return []figure{
		{"beside load, a " + name, fmt.Sprintf("%d times", times)},
		{"the longest time until the next Caddy was ready", rounded(away).String()},
		{"datagrams of one flow, lost", fmt.Sprintf("%d of %d", lost, arrived.once)},
		{"the longest pause between two of them", rounded(datagrams.pause).String()},
		{"open connections to another server, lost", "0 of 2"},
		{"new connections to another server", connected.String()},
		{"new connections to a site of Caddy's", asked.String()},
		{"WebSockets through a site of Caddy's", chats.String()},
		{"files that the service manager keeps, and what the process has", fmt.Sprintf("%d, %s", files, after)},
	}
}

// chatting is a WebSocket that is opened again whenever it ends.
type chatting struct {
	stop    chan struct{}
	done    chan struct{}
	ended   int
	longest time.Duration // without one
}

func (c *chatting) String() string {
	return fmt.Sprintf("%d ended, and were open again within %v", c.ended, rounded(c.longest))
}

func (c *chatting) end() *chatting {
	close(c.stop)
	<-c.done
	return c
}

// keepChatting makes PC1 talk by a WebSocket each 10 ms.
func (s *scene) keepChatting(path string) *chatting {
	c := &chatting{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		var conn *websocket.Conn
		lost := time.Now()
		for tick := time.Tick(10 * time.Millisecond); ; <-tick {
			select {
			case <-c.stop:
				if conn != nil {
					conn.Close()
				}
				return
			default:
			}
			if conn == nil {
				var err error
				if conn, err = s.openChat(path); err != nil {
					continue
				}
				if c.ended > 0 {
					c.longest = max(c.longest, time.Since(lost))
				}
			}
			if err := chat(conn); err != nil {
				conn.Close()
				conn, lost = nil, time.Now()
				c.ended++
			}
		}
	}()
	return c
}

// openChat opens a WebSocket to the pseudo address from PC1, and takes the greeting.
func (s *scene) openChat(path string) (*websocket.Conn, error) {
	config, err := websocket.NewConfig("ws://192.168.1.2"+path, "http://192.168.1.2/")
	if err != nil {
		return nil, err
	}
	raw, err := s.PC1.DialContext(s.t.Context(), "tcp", "192.168.1.2:80")
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
	conn, err := websocket.NewClient(config, raw)
	if err != nil {
		raw.Close()
		return nil, err
	}
	var greeting string
	if err := websocket.Message.Receive(conn, &greeting); err != nil || !strings.HasPrefix(greeting, "a") {
		conn.Close()
		return nil, fmt.Errorf("it greets with %q (%w)", greeting, err)
	}
	return conn, nil
}

func chat(conn *websocket.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	const said = "hello"
	if err := websocket.Message.Send(conn, said); err != nil {
		return err
	}
	var got string
	if err := websocket.Message.Receive(conn, &got); err != nil {
		return err
	}
	if got != said {
		return fmt.Errorf("%q comes back as %q", said, got)
	}
	return nil
}
