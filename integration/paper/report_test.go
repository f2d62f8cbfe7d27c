package paper

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

var update = flag.Bool("update", false, "write testdata/report.txt anew")

// TestReport compares a whole report with testdata/report.txt.
func TestReport(t *testing.T) {
	var b bytes.Buffer
	r := NewReport(&b)
	r.Text(picture)
	r.Progress("not a terminal, so this is not shown")
	r.Part("The router translates addresses (NAT): the server sees the router")
	r.Section(familyIPv4.pingSection(segmentA, &netlab.PingResult{Sent: 3, Replies: []netlab.PingReply{
		{From: PseudoAddr, Seq: 1, TTL: 63, Bytes: 64, RTT: 940 * time.Microsecond},
		{From: PseudoAddr, Seq: 3, TTL: 63, Bytes: 64, RTT: 2818 * time.Microsecond},
	}}, segmentB.device))
	four, err := findEcho(paperEcho(t, RouterAddr, segmentA.gateway, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range familyIPv4.frameSections(four, RouterAddr, segmentA.gateway) {
		r.Section(s)
	}
	r.Section(familyIPv4.pageSection(segmentA, parsePage("<title>server-A</title><p>You are 192.168.1.1.</p>"), RouterAddr, segmentA.device))
	r.Part("Two NICs: two networks that do not reach each other")
	r.Text(pictureFig19)
	r.Section(ownSection([]attempt{{"PC1: http://192.168.1.2/", "server-A", "server-A"}}))
	r.Section(otherSection("PC1 and server-A reach nothing of the other network", []attempt{
		{"PC1: http://192.168.2.2/", noAnswer, "server-B"},
		{"PC1: ping 192.168.2.2", noAnswer, noAnswer},
	}, 6))
	r.Part("A front: one name, and each URL path from a segment of its own")
	r.Text(pictureFig18)
	r.Section(pathsSection([]attempt{
		{test1 + ", " + netlab.HTTP2, "server-A by vnic-A", "server-A by vnic-A"},
		{test2 + ", " + netlab.HTTP2, "server-B by vnic-B", "server-A by vnic-A"},
	}))
	r.Section(alternatingSection([]attempt{{"test1, test2, test1, test2, " + netlab.HTTP3, "A B A B, connections: 1", "A B A B, connections: 1"}}))
	r.Section(familyIPv4.passedSection([]string{test1, test2}, nil, []string{"192.168.10.2", "192.168.40.1"}))
	r.Part("Beyond the paper: IPv6")
	r.Text(pictureIPv6)
	checked, differing := r.Summary()
	if checked != 5+7+10+9+10+3+1+3+2+1+3 || differing != 2+2+1+3 {
		t.Errorf("%d of %d checks differ", differing, checked)
	}

	const golden = "testdata/report.txt"
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the report differs from %s (go test -update writes it anew):\n%s", golden, b.String())
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > reportWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestReportWide shows a value that is as expected only once where a line would be too long.
func TestReportWide(t *testing.T) {
	var b bytes.Buffer
	long := strings.Repeat("x", 50)
	NewReport(&b).Section(Section{Checks: []Check{same("wide", long, long), same("other", long, long+"y")}})
	for _, want := range []string{"wide   " + long + "  the same\n", "other  " + long + "\n           here: " + long + "y\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q lacks %q", b.String(), want)
		}
	}
}

func TestReportColour(t *testing.T) {
	var b bytes.Buffer
	r := NewReport(&b)
	r.color = true
	r.Section(Section{Figure: "Fig-1", Title: "T", Checks: []Check{same("x", "1", "2")}})
	for _, want := range []string{"\x1b[1mFig-1  T\x1b[0m\n", "\x1b[31;1m✗\x1b[0m x"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q lacks %q", b.String(), want)
		}
	}
}

func TestParsePage(t *testing.T) {
	if got := parsePage("502 Bad Gateway"); got.title != "(not found)" || got.client != "(not found)" {
		t.Errorf("%+v", got)
	}
}

// TestPolicyEdit checks that the lab's one edit of its Caddyfile is possible and
// changes that line only.
func TestPolicyEdit(t *testing.T) {
	if strings.Count(caddyfile, answerA) != 1 {
		t.Errorf("the Caddyfile must have `%s` once", answerA)
	}
	if got := strings.Replace(withPolicy(answerB), answerB, answerA, 1); got != caddyfile || withPolicy(answerB) == caddyfile {
		t.Error("more or less than the policy was edited")
	}
}
