package paper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidFile is the file, beside the captures, that names the process of a lab that is kept.
const pidFile = "lab.pid"

// keep puts a network in force, and leaves it up until the context ends. The second LAN is there
// in any case, so every configuration of the lab can be loaded.
func (l *lab) keep(ctx context.Context) error {
	l.report.Progress("reloading with the network %s", l.opts.Keep)
	if err := errors.Join(l.addLAN(), l.reloadWith(ctx, l.config(l.opts.Keep))); err != nil {
		return err
	}
	if err := os.WriteFile(l.path(pidFile), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer os.Remove(l.path(pidFile))
	l.report.Text(l.explore())
	<-ctx.Done()
	return nil
}

// explore says how to look around.
func (l *lab) explore() string {
	enter := os.Args[0] + " vnic lab enter "
	if l.opts.Captures != DefaultCaptures {
		enter = os.Args[0] + " vnic lab enter --captures " + l.opts.Captures + " "
	}
	page := "curl http://" + PseudoAddr.String() + "/"
	switch l.opts.Keep {
	case "fig18":
		page = "curl -k --connect-to ::" + PseudoAddr.String() + ": " + siteURL + test1
	case "names":
		page = "curl -k --connect-to ::" + PseudoAddr.String() + ": https://a.example.com/"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe network %s is up until Ctrl-C. To look around, in another terminal:\n", l.opts.Keep)
	for _, command := range []string{
		"pc1 " + page, "pc1 ping " + PseudoAddr.String(), "router ip neighbour", "server tcpdump -ni " + segmentB.device,
		"server " + os.Args[0] + " vnic status", "server " + os.Args[0] + " reload --config " + l.path("Caddyfile.fig19"), "pc1",
	} {
		b.WriteString("\n  " + enter + command)
	}
	return b.String()
}

// Enter runs a command on a host of a network that a lab keeps up, or a shell. It does not return
// if the command starts.
func Enter(captures, host string, command []string) error {
	if !slices.Contains(Hosts(), host) {
		return fmt.Errorf("lab: unknown host %q: want one of %s", host, strings.Join(Hosts(), ", "))
	}
	pid, err := os.ReadFile(filepath.Join(captures, pidFile))
	if err != nil {
		return fmt.Errorf("lab: no network is up: run `%s vnic lab --keep paper`, and give both the same --captures: %w", os.Args[0], err)
	}
	if len(command) == 0 {
		command = []string{shell()}
	}
	words := append(inNamespacesOf(string(pid)), append([]string{"nsenter", "--net=/run/netns/" + labName + "-" + host}, command...)...)
	program, err := exec.LookPath(words[0])
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return unix.Exec(program, words, append(os.Environ(), "PS1="+host+"$ "))
}

// inNamespacesOf are the words that enter the lab's mount namespace, where the hosts have names,
// and its user namespace if it has one. The working directory stays the same.
func inNamespacesOf(pid string) []string {
	words := []string{"nsenter", "--target=" + pid, "--mount"}
	if here, err := os.Getwd(); err == nil {
		words = append(words, "--wdns="+here)
	}
	if own, err := os.Readlink("/proc/self/ns/user"); err == nil {
		if its, err := os.Readlink("/proc/" + pid + "/ns/user"); err == nil && its != own {
			words = append(words, "--user", "--preserve-credentials")
		}
	}
	return words
}

// shell is the user's shell.
func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "sh"
}
