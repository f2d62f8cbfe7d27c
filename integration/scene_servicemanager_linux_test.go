package integration_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// serviceManager keeps Caddy's files over restarts as systemd does (sd_pid_notify_with_fds(3)).
type serviceManager struct {
	s    *scene
	conn *net.UnixConn

	settled chan struct{} // gets something for each message of settle

	mu    sync.Mutex
	files []*os.File // in the order in which they came
	full  bool       // it takes no more
}

// superviseCaddy makes a service manager for the Caddys that startSupervised starts.
func (s *scene) superviseCaddy() *serviceManager {
	s.t.Helper()
	path := filepath.Join(s.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		s.t.Fatal(err)
	}
	m := &serviceManager{s: s, conn: conn, settled: make(chan struct{})}
	s.env = append(s.env, "NOTIFY_SOCKET="+path, "CADDY_VNIC_STORE=1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m.receive() {
		}
	}()
	s.t.Cleanup(func() {
		conn.Close()
		<-done
		m.drop("")
	})
	return m
}

// receive takes one message.
func (m *serviceManager) receive() bool {
	text, rights := make([]byte, 4096), make([]byte, 1024)
	n, r, _, _, err := m.conn.ReadMsgUnix(text, rights)
	if err != nil {
		return false
	}
	said := make(map[string]string)
	for line := range strings.Lines(string(text[:n])) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = value
	}
	var fds []int
	if messages, err := unix.ParseSocketControlMessage(rights[:r]); err == nil && len(messages) > 0 {
		fds, _ = unix.ParseUnixRights(&messages[0])
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		m.take(said, os.NewFile(uintptr(fd), said["FDNAME"]))
	}
	if _, ok := said["SETTLED"]; ok {
		m.settled <- struct{}{}
	}
	if said["FDSTOREREMOVE"] == "1" {
		m.drop(said["FDNAME"])
	}
	return true
}

// settle waits until all messages that were sent are taken, as systemd does before it starts a process
// again.
func (m *serviceManager) settle() {
	m.s.t.Helper()
	conn, err := net.Dial("unixgram", m.conn.LocalAddr().String())
	if err != nil {
		m.s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "SETTLED=1"); err != nil {
		m.s.t.Fatal(err)
	}
	<-m.settled
}

// take keeps a file if it is to be kept, and if it is no file that is kept already.
func (m *serviceManager) take(said map[string]string, file *os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := slices.ContainsFunc(m.files, func(other *os.File) bool { return succession.Same(other, file) })
	if said["FDSTORE"] != "1" || known || m.full {
		file.Close()
		return
	}
	if said["FDPOLL"] != "0" {
		m.s.t.Errorf("the service manager is to watch the file %s", file.Name())
	}
	m.files = append(m.files, file)
}

// drop closes the files of a name, or all.
func (m *serviceManager) drop(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = slices.DeleteFunc(m.files, func(file *os.File) bool {
		if name != "" && file.Name() != name {
			return false
		}
		file.Close()
		return true
	})
}

// count is how many files are kept.
func (m *serviceManager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.files)
}

// start starts Caddy with what is kept.
func (m *serviceManager) start(config caddyfile) {
	s := m.s
	s.t.Helper()
	if err := m.tryStart(config); err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("Caddy tells what is kept", func() bool {
		return strings.Contains(s.caddy.Log(1000), "the service manager keeps")
	})
}

func (m *serviceManager) tryStart(config caddyfile) error {
	s := m.s
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	m.settle()
	files, names := m.copies()
	s.starts++
	caddy, err := s.Server.StartCaddy(s.t.Context(), netlab.CaddyOptions{
		Program: s.writeProgram("supervised.sh", "#!/bin/sh\nLISTEN_PID=$$ exec "+self+" \"$@\"\n"),
		Config:  s.write("Caddyfile", config.String()), Log: s.log(s.starts), State: s.dir, Files: files,
		Env: append(slices.Clone(s.env), "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":")),
	})
	if err == nil {
		s.caddy = caddy
	}
	return err
}

// copies are further descriptors of the files that are kept, with their names.
func (m *serviceManager) copies() (files []*os.File, names []string) {
	m.s.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kept := range m.files {
		file, err := succession.Duplicate(kept, kept.Name())
		if err != nil {
			m.s.t.Fatal(err)
		}
		files, names = append(files, file), append(names, kept.Name())
	}
	return files, names
}

// kill ends Caddy by kill -9.
func (m *serviceManager) kill() {
	m.s.t.Helper()
	process := m.s.caddy.Process()
	if err := process.Signal(unix.SIGKILL); err != nil {
		m.s.t.Fatal(err)
	}
	select {
	case <-process.Done():
	case <-time.After(10 * time.Second):
		m.s.t.Fatal("Caddy does not end by kill -9")
	}
}
