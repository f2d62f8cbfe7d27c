package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Two departments have a socket each, and users of their own without any privilege. They do to their
// segment what they may, by the commands, and nothing else, however they ask. In what they are told,
// nothing of the other department is.
func TestRoles(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRoles(t, datapath)
		a, b := s.department("alpha", 61001), s.department("bravo", 61002)
		t.Run("operates", func(t *testing.T) { s.t = t; a.operates(); b.operates() })
		t.Run("sees its own", func(t *testing.T) { s.t = t; a.seesItsOwn(b); b.seesItsOwn(a) })
		t.Run("captures", func(t *testing.T) { s.t = t; a.captures() })
		t.Run("bans", func(t *testing.T) { s.t = t; a.bans(b) })
		t.Run("is refused the rest", func(t *testing.T) { s.t = t; a.isRefused() })
		t.Run("is refused other sockets", func(t *testing.T) { s.t = t; a.isKeptOut(b) })
		t.Run("survives", func(t *testing.T) { s.t = t; s.survives(a) })
		s.t = t
	})
}

// roles is a scene with the departments alpha and bravo behind one address.
type roles struct {
	*scene
	program string // Caddy, where every user can run it
	config  string
}

func newRoles(t *testing.T, datapath string) *roles {
	t.Helper()
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	open, err := os.MkdirTemp("", "roles")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	if err := os.Chmod(open, 0o711); err != nil {
		t.Fatal(err)
	}
	s.admin = filepath.Join(open, "caddy.sock")
	r := &roles{scene: s, program: s.copyOfCaddy(open)}
	r.config = fmt.Sprintf(`{
	admin unix/%s|0600
	vnic {
		segment alpha {
			address 192.168.50.1/24
			reach bravo
			weight 2
		}
		segment bravo {
			address 192.168.60.1/24
		}
		bridge lan {
			nic nic0
			address 192.168.1.2/24
			gateway 192.168.1.1
			steer alpha name alpha.example
			steer bravo name bravo.example
			lb_policy weighted_round_robin bravo alpha
		}
		datapath %s
	}
}
http:// {
	bind vnic/alpha
	respond "alpha"
}
http:// {
	bind vnic/bravo
	respond "bravo"
}
`, r.admin, datapath)
	if err := s.tryStart(r.config); err != nil {
		t.Fatal(err)
	}
	return r
}

// department is a segment's administrator.
type department struct {
	*roles
	segment string
	uid     int
	socket  string
	command *netlab.Process
}

// department starts a role that serves a segment to a user.
func (s *roles) department(segment string, uid int) *department {
	s.t.Helper()
	d := &department{roles: s, segment: segment, uid: uid, socket: filepath.Join(filepath.Dir(s.admin), segment+".sock")}
	// As the unit does, but by root: the process has the department's group, and the socket gets it.
	cmd := exec.Command("setpriv", "--regid", fmt.Sprint(uid), "--clear-groups", s.program, "vnic", "serve-role", segment, "--listen", "unix/"+d.socket+"|0660", "--address", "unix/"+s.admin)
	cmd.Env = append(os.Environ(), asCaddy)
	logged, err := os.Create(filepath.Join(s.dir, segment+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { logged.Close() })
	cmd.Stdout, cmd.Stderr = logged, logged
	if d.command, err = s.Server.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("the socket of "+segment, func() bool {
		found, err := os.Stat(d.socket)
		return err == nil && found.Mode().Perm() == 0o660
	})
	return d
}

// try runs words in a shell as the department's user, with Caddy in the PATH.
func (d *department) try(words string) (string, error) {
	d.t.Helper()
	out, err := d.Server.Run(d.t.Context(), "setpriv", "--reuid", fmt.Sprint(d.uid), "--regid", fmt.Sprint(d.uid), "--clear-groups",
		"--bounding-set", "-all", "--no-new-privs", "sh", "-euc",
		fmt.Sprintf("vnic() { command=$1; shift; env HOME=/ %s %s vnic $command --address unix/%s \"$@\"; }\n%s", asCaddy, d.program, d.socket, words))
	return string(out), err
}

func (d *department) run(words string) string {
	d.t.Helper()
	out, err := d.try(words)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// now is the whole status, as Caddy's own administrator sees it.
func (s *roles) now() (status vnicbridge.Status) {
	s.t.Helper()
	answer, err := s.adminClientAt(s.admin).Get("http://127.0.0.1/vnic/status")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// adminClientAt asks at a Unix socket.
func (s *roles) adminClientAt(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

func (d *department) operates() {
	d.t.Helper()
	other := map[string]string{"alpha": "bravo", "bravo": "alpha"}[d.segment]
	for _, step := range []struct {
		words, says string
		state       config.State
	}{
		{"vnic drain " + d.segment, "is draining", config.Draining},
		{"vnic drain " + d.segment + " --flows", "is draining", config.Draining},
		{"vnic activate " + d.segment, "is active", config.Active},
		{"vnic stop " + d.segment, "is stopped", config.Stopped},
		{"vnic start " + d.segment, "is active", config.Active},
		{"vnic weight " + d.segment + " 7", "has weight 7", config.Active},
		{"vnic weight " + d.segment + " --undo", "has weight", config.Active},
	} {
		if said := d.run(step.words); !strings.Contains(said, step.says) {
			d.t.Errorf("%s says %q", step.words, said)
		}
		status := d.now()
		if got := status.Segments[d.segment].State; got != step.state {
			d.t.Errorf("after %s the segment is %s", step.words, got)
		}
		if got := status.Segments[other]; got.State != config.Active || got.Weight != got.ConfiguredWeight {
			d.t.Errorf("after %s the other segment is %s", step.words, got.State)
		}
	}
	if log := d.logged(); !strings.Contains(log, "path=/vnic/segments/"+d.segment+"/stop") || !strings.Contains(log, fmt.Sprintf("uid %d", d.uid)) {
		d.t.Errorf("the log does not say who has stopped the segment:\n%s", log)
	}
}

func (d *department) logged() string {
	log, err := os.ReadFile(filepath.Join(d.dir, d.segment+".log"))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(log)
}

// ask sends a request to the socket as it is, and returns the answer.
func (d *department) ask(request, body string) (status int, answer string) {
	d.t.Helper()
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", request, len(body), body)
	read, err := io.ReadAll(conn)
	if err != nil {
		d.t.Fatalf("%s: %v", request, err)
	}
	fmt.Sscanf(string(read), "HTTP/1.1 %d", &status)
	return status, string(read)
}

// seesItsOwn checks each answer for what is the other department's.
func (d *department) seesItsOwn(other *department) {
	d.t.Helper()
	for _, host := range []string{"alpha.example", "bravo.example"} {
		d.fetches(d.PC1, host)
		d.fetches(d.Neighbours[0], host)
	}
	d.fetches(d.Server, "") // alpha reaches bravo by its alias
	whole := d.now()
	foreign := []string{other.segment, other.segment + ".example", "vnic-" + other.segment}
	for _, address := range whole.Segments[other.segment].Addresses {
		foreign = append(foreign, address.Addr().String())
	}
	foreign = append(foreign, whole.Segments[other.segment].MAC.String())
	for _, request := range []string{
		"GET /vnic/status", "GET /vnic/flows", "GET /vnic/flows?limit=1000&bridge=lan&state=established", "GET /vnic/flows?segment=" + d.segment,
		"GET /vnic/flows?name=" + d.segment + ".example", "GET /vnic/clients?limit=10", "GET /vnic/events", "GET /vnic/history", "GET /vnic/bans", "GET /vnic/bans?limit=3",
	} {
		status, answer := d.ask(request, "")
		if status != http.StatusOK {
			d.t.Errorf("%s: %s", request, answer)
		}
		for _, word := range foreign {
			if strings.Contains(answer, word) {
				d.t.Errorf("the answer to %s has %q of the other department:\n%s", request, word, answer)
			}
		}
	}
	if status, answer := d.ask("GET /vnic/flows", ""); status != 200 || !strings.Contains(answer, paper.PC1Addr.String()) {
		d.t.Errorf("of its own flows it sees:\n%s", answer)
	}
	for _, words := range []string{"vnic status", "vnic status " + d.segment, "vnic status --json", "vnic flows", "vnic bans"} {
		said := d.run(words)
		for _, word := range foreign {
			if strings.Contains(said, word) {
				d.t.Errorf("%s has %q of the other department:\n%s", words, word, said)
			}
		}
	}
	if own := d.run("vnic status"); !strings.Contains(own, "This is of segment "+d.segment+" alone.") || !strings.Contains(own, "192.168.1.2/24") {
		d.t.Errorf("the status is:\n%s", own)
	}
}

// fetches gets a department's page from a host, or lets alpha's namespace reach bravo.
func (d *department) fetches(h *netlab.Host, host string) {
	d.t.Helper()
	if host == "" {
		for _, aliases := range d.now().Segments["alpha"].Peers {
			d.Server.Run(d.t.Context(), "curl", "-s", "--max-time", "2", "--interface", "192.168.50.1", "http://"+aliases[0].String()+"/")
		}
		return
	}
	d.on(h, "curl", "-sf", "--max-time", "5", "-H", "Host: "+host, "http://192.168.1.2/")
}

func (d *department) on(h *netlab.Host, name string, args ...string) {
	d.t.Helper()
	if out, err := h.Run(d.t.Context(), name, args...); err != nil {
		d.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// captures checks that a capture has the segment's packets, and nothing of the other's devices.
func (d *department) captures() {
	d.t.Helper()
	file := filepath.Join(d.dir, "capture")
	done := make(chan error, 1)
	go func() {
		out, err := d.try("vnic capture " + d.segment + " -w - --count 6 --duration 20s")
		done <- os.WriteFile(file, []byte(out), 0o600)
		done <- err
	}()
	d.waitFor("the log says that the capture begins", func() bool { return strings.Contains(d.logged(), "path=/vnic/capture") })
	if status, answer := d.ask("GET /vnic/capture?of="+d.segment+"&duration=1ms", ""); status != http.StatusTooManyRequests {
		d.t.Errorf("a second capture at the same time: %s", answer)
	}
	for range 3 {
		d.fetches(d.PC1, d.segment+".example")
		d.fetches(d.PC1, "bravo.example")
	}
	for range 2 {
		if err := <-done; err != nil {
			d.t.Fatal(err)
		}
	}
	packets, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Contains(packets, []byte("vnic-"+d.segment)) || !bytes.Contains(packets, []byte("Host: "+d.segment+".example")) {
		d.t.Errorf("the capture has %d bytes, and not the segment's packets", len(packets))
	}
	for _, word := range []string{"vnic-bravo", "bravo.example"} {
		if bytes.Contains(packets, []byte(word)) {
			d.t.Errorf("the capture has %q of the other department", word)
		}
	}
}

func (d *department) bans(other *department) {
	d.t.Helper()
	client := banned{s: d.scene, client: paper.PC1Addr.String(), public: "192.168.1.2"}
	reaches := func(host string) bool {
		_, err := d.PC1.Run(d.t.Context(), "curl", "-sf", "--max-time", "1", "-H", "Host: "+host, "http://192.168.1.2/")
		return err == nil
	}
	if said := d.run("vnic ban " + client.client + " --for 1h"); !strings.Contains(said, "is banned") {
		d.t.Errorf("ban says %q", said)
	}
	if reaches(d.segment + ".example") {
		d.t.Error("the banned client reaches the segment")
	}
	if !reaches(other.segment + ".example") {
		d.t.Error("the client does not reach the other department, which has not banned it")
	}
	if listed := d.run("vnic bans"); !strings.Contains(listed, client.client+"  segment "+d.segment) {
		d.t.Errorf("the list of bans is:\n%s", listed)
	}
	if listed := other.run("vnic bans"); listed != "nobody is banned\n" {
		d.t.Errorf("the other department sees the bans:\n%s", listed)
	}
	if _, err := other.try("vnic unban " + client.client); err == nil {
		d.t.Error("the other department ends the ban")
	}
	for _, words := range []string{"vnic ban 203.0.113.7 --bridge lan", "vnic ban 203.0.113.7 --segment " + other.segment, "vnic ban 192.168.1.1"} {
		if out, err := d.try(words); err == nil {
			d.t.Errorf("%s is done: %s", words, out)
		}
	}
	d.run("vnic unban " + client.client)
	if !reaches(d.segment + ".example") {
		d.t.Error("after unban the client does not reach the segment")
	}
}

// isRefused checks that everything that is not allowed is refused, however it is written, and that
// nothing has come of it.
func (d *department) isRefused() {
	d.t.Helper()
	before := d.now()
	for _, test := range []struct {
		request, body string
		want          int
	}{
		{"GET /config/", "", 403}, {"GET /config/apps/vnic", "", 403}, {"POST /load", "{}", 403}, {"POST /stop", "", 403}, {"POST /adapt", "{}", 403},
		{"GET /id/x", "", 403}, {"GET /pki/ca/local", "", 403}, {"GET /reverse_proxy/upstreams", "", 403}, {"GET /metrics", "", 403}, {"GET /debug/pprof/", "", 403},
		{"GET /vnic/watch", "", 403}, {"POST /vnic/upgrade", "", 403}, {"GET /", "", 403}, {"GET /vnic/", "", 403}, {"OPTIONS *", "", 403},
		{"POST /vnic/bridges/lan/switch", `{"segment":"alpha"}`, 403}, {"DELETE /vnic/bridges/lan/switch", "", 403}, {"POST /vnic/bridges/lan/drain", "", 403},
		{"POST /vnic/segments/bravo/drain", "", 403}, {"POST /vnic/segments/bravo/stop", "", 403}, {"POST /vnic/segments/bravo/weight", `{"weight":9}`, 403},
		{"POST /vnic/segments/alpha/../bravo/stop", "", 403}, {"POST /vnic/segments/alpha/../bravo/drain", "", 403},
		{"POST /vnic/segments/%62ravo/stop", "", 403}, {"POST /vnic/segments/alpha%2f..%2fbravo/stop", "", 403}, {"POST /vnic/segments//bravo/stop", "", 403},
		{"POST //vnic/segments/bravo/stop", "", 403}, {"POST /vnic/segments/alpha/stop/", "", 403}, {"POST /vnic/segments/alpha/stop;x", "", 403}, {"POST /vnic/segments/ALPHA/stop", "", 403},
		{"POST /vnic/./segments/bravo/stop", "", 403}, {"POST /vnic/status/../segments/bravo/stop", "", 403}, {"GET /vnic/%73tatus", "", 403}, {"GET /vnic/status/", "", 403}, {"GET /vnic/status%00", "", 403},
		{"POST http://127.0.0.1/vnic/segments/bravo/stop", "", 403}, {"GET http://127.0.0.1/config/", "", 403}, {"CONNECT 127.0.0.1:2019", "", 403},
		{"HEAD /vnic/status", "", 403}, {"PUT /vnic/bans", "{}", 403}, {"PATCH /vnic/bans", "{}", 403}, {"GET /vnic/segments/alpha/stop", "", 403}, {"DELETE /vnic/segments/alpha/stop", "", 403},
		{"POST /vnic/status", "", 403}, {"get /vnic/status", "", 403},
		{"GET /vnic/flows?segment=bravo", "", 403}, {"GET /vnic/clients?segment=bravo", "", 403}, {"GET /vnic/bans?segment=bravo", "", 403},
		{"GET /vnic/flows?segment=alpha&segment=bravo", "", 400}, {"GET /vnic/flows?segment=bravo&segment=alpha", "", 400}, {"GET /vnic/flows?Segment=bravo", "", 400},
		{"GET /vnic/flows?segment=alpha;segment=bravo", "", 400}, {"GET /vnic/flows?segment=%zz", "", 400}, {"GET /vnic/flows?colour=red", "", 400},
		{"GET /vnic/flows?segment", "", 403}, {"GET /vnic/flows?segment=", "", 403}, {"GET /vnic/flows?segment=bravo%00", "", 403},
		{"GET /vnic/flows?name=bravo.example", "", 400}, {"GET /vnic/flows?bridge=wan", "", 400}, {"GET /vnic/flows?limit=0", "", 400}, {"GET /vnic/flows?state=bravo", "", 400},
		{"GET /vnic/capture?of=bravo", "", 403}, {"GET /vnic/capture?of=lan", "", 403}, {"GET /vnic/capture?of=bridge/lan", "", 403}, {"GET /vnic/capture?of=segment/bravo", "", 403},
		{"GET /vnic/capture?of=alpha&of=bravo", "", 400}, {"GET /vnic/capture?of=alpha&peers=true", "", 400}, {"GET /vnic/capture?of=alpha&filter=no+such", "", 400}, {"GET /vnic/capture?of=", "", 403},
		{"GET /vnic/status?segment=bravo", "", 400}, {"POST /vnic/segments/alpha/drain?segment=bravo", "", 400},
		{"POST /vnic/bans", `{"networks":["203.0.113.7"],"bridge":"lan"}`, 403}, {"POST /vnic/bans", `{"networks":["203.0.113.7"],"segment":"bravo"}`, 403},
		{"POST /vnic/bans", `{"networks":["203.0.113.7"],"segment":"alpha","Segment":"bravo"}`, 403}, {"POST /vnic/bans", `{"networks":["203.0.113.7"],"colour":1}`, 400},
		{"POST /vnic/bans", `{"networks":["203.0.113.7"]} {"bridge":"lan"}`, 400}, {"POST /vnic/bans", `[]`, 400}, {"POST /vnic/bans", ``, 400}, {"DELETE /vnic/bans", `{"networks":["203.0.113.7"],"bridge":"lan"}`, 403},
		{"POST /vnic/segments/alpha/weight", `{"weight":9,"segment":"bravo"}`, 400}, {"POST /vnic/segments/alpha/weight", `{"weight":0}`, 400}, {"POST /vnic/segments/alpha/stop", `{"segment":"bravo"}`, 400},
		{"POST /vnic/bans", strings.Repeat(" ", 1<<20+1), 413},
	} {
		status, answer := d.ask(test.request, test.body)
		if status != test.want {
			d.t.Errorf("%s %.60s: %d, want %d:\n%s", test.request, test.body, status, test.want, answer)
		}
		if status == http.StatusForbidden && !strings.HasPrefix(test.request, "HEAD") && !strings.Contains(answer, `{"error":"refused: this socket`) {
			d.t.Errorf("%s is refused without a word of why:\n%s", test.request, answer)
		}
		// A word of the request may come back, such as the name of a bridge.
		if strings.Contains(strings.ReplaceAll(answer, "bravo", ""), "vnic-") || !strings.Contains(test.request+test.body, "bravo") && strings.Contains(answer, "bravo") {
			d.t.Errorf("%s names the other department:\n%s", test.request, answer)
		}
	}
	for _, smuggled := range []string{"X-HTTP-Method-Override: DELETE", "X-Original-URL: /config/", "X-Forwarded-Host: localhost:2019", "Origin: http://evil.example", "Upgrade: caddy-vnic-watch"} {
		if status, answer := d.ask("POST /vnic/segments/bravo/stop HTTP/1.1\r\n"+smuggled+"\r\nX-Rest:", ""); status < 400 {
			d.t.Errorf("with %s: %s", smuggled, answer)
		}
	}
	if status, answer := d.ask("POST /vnic/bans HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Rest:", "2d\r\n"+`{"networks":["203.0.113.7"],"bridge":"lan"}   `+"\r\n0\r\n\r\nPOST /vnic/segments/bravo/stop HTTP/1.1\r\nHost: a\r\n\r\n"); status < 400 || strings.Contains(answer, "HTTP/1.1 200") {
		d.t.Errorf("a body in chunks, and another request behind: %s", answer)
	}
	after := d.now()
	for name, segment := range before.Segments {
		if got := after.Segments[name]; got.State != segment.State || got.Weight != segment.Weight {
			d.t.Errorf("segment %s was %s with weight %d, and is %s with %d", name, segment.State, segment.Weight, got.State, got.Weight)
		}
	}
	if after.Bans != before.Bans || after.Bridges["lan"].SwitchedTo != "" {
		d.t.Errorf("there are %d bans, and the bridge is switched to %q", after.Bans, after.Bridges["lan"].SwitchedTo)
	}
	if out, err := d.try("vnic switch lan alpha"); err == nil || !strings.Contains(out, "this socket is for segment alpha alone") {
		d.t.Errorf("switch says %q (%v)", out, err)
	}
}

// isKeptOut checks that the sockets' modes keep a department's user out of the other's, and of Caddy's.
func (d *department) isKeptOut(other *department) {
	d.t.Helper()
	for _, socket := range []string{other.socket, d.admin} {
		out, err := d.try(strings.ReplaceAll("curl -sS --unix-socket SOCKET http://127.0.0.1/vnic/status", "SOCKET", socket))
		if err == nil {
			d.t.Errorf("%s connects to %s: %s", d.segment, socket, out)
		}
	}
	if out, err := d.try("curl -sS --unix-socket " + d.socket + " http://127.0.0.1/vnic/status"); err != nil {
		d.t.Errorf("its own socket: %v: %s", err, out)
	}
}

// survives checks that a role outlives restarts of Caddy, and a configuration without its segment.
func (s *roles) survives(d *department) {
	s.t.Helper()
	s.stop()
	if status, answer := d.ask("GET /vnic/status", ""); status != http.StatusBadGateway {
		s.t.Errorf("without Caddy: %s", answer)
	}
	without := strings.NewReplacer("steer alpha name alpha.example", "", "bravo alpha", "bravo", "segment alpha {", "segment other {", "vnic/alpha", "vnic/other").Replace(s.config)
	if err := s.tryStart(without); err != nil {
		s.t.Fatal(err)
	}
	for request, want := range map[string]int{"GET /vnic/status": 404, "GET /vnic/flows": 404, "POST /vnic/segments/alpha/stop": 404} {
		if status, answer := d.ask(request, ""); status != want || strings.Contains(answer, "bravo") || strings.Contains(answer, "other") {
			s.t.Errorf("without the segment, %s: %s", request, answer)
		}
	}
	s.stop()
	if err := s.tryStart(s.config); err != nil {
		s.t.Fatal(err)
	}
	if status, answer := d.ask("GET /vnic/status", ""); status != http.StatusOK {
		s.t.Errorf("with Caddy again: %s", answer)
	}
	if out, err := s.tryShell("caddy vnic serve-role alpha --listen unix/" + d.socket + " --address unix/" + s.admin); err == nil || !strings.Contains(out, "in use by another process") {
		s.t.Errorf("a second role at the same socket: %v: %s", err, out)
	}
	if err := d.command.Signal(unix.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-d.command.Done()
	again := s.department(d.segment, d.uid)
	s.waitFor("the role is back at its socket", func() bool {
		_, err := again.try("vnic status")
		return err == nil
	})
}
