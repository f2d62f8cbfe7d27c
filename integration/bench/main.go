// Command bench compares the cost of the bridge with that of other ways to give several
// servers one address.
//
//	make bench
//	go run ./integration/bench -quick -caddy bin/caddy
//
// A [suite] consists of variants that do the same work. For each variant bench builds the
// same small network: client, cable, server. It runs every probe on all variants in turn,
// round by round, and compares only figures of the same round. It needs root, works in
// network namespaces, and leaves only its result files behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// limit bounds a run. A run that takes longer hangs.
const limit = 100 * time.Minute

// settings are the command's flags.
type settings struct {
	caddy    string
	quick    bool
	rounds   int
	families string
	variants string
	only     string
	json     string
	docs     string
	from     string
	profile  string
}

// register declares the flags.
func (s *settings) register(flags *flag.FlagSet) {
	flags.StringVar(&s.caddy, "caddy", "bin/caddy", "the custom Caddy `binary` (make build)")
	flags.BoolVar(&s.quick, "quick", false, "run one short round, to try the benchmark; its figures mean little")
	flags.IntVar(&s.rounds, "rounds", 5, "how many rounds; 1 with -quick")
	flags.StringVar(&s.families, "families", "", "comma-separated `families` to measure: 4, 6; default both")
	flags.StringVar(&s.variants, "variants", "", "comma-separated `names` of variants to compare with direct; default all")
	flags.StringVar(&s.only, "only", "", "comma-separated `parts` to run: requests, bulk, iperf3, roundtrip, flows, capture, reloads, table, groups, https, names; default all")
	flags.StringVar(&s.json, "json", "build/bench.json", "the `file` that gets all figures of all rounds")
	flags.StringVar(&s.docs, "docs", "", "the `directory` whose benchmarks.md and charts get the results; default none")
	flags.StringVar(&s.from, "from", "", "measure nothing, but report on this JSON `file` of an earlier run")
	flags.StringVar(&s.profile, "profile", "", "write CPU profiles of Caddy, one for each probe, to this `directory`")
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == plainBridgeCommand {
		fail(runPlainBridge(os.Args[2:]))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == http3LoadCommand {
		fail(runHTTP3Load(os.Args[2:]))
		return
	}
	var s settings
	s.register(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fail(fmt.Errorf("unexpected argument %q: see -help", flag.Arg(0)))
	}
	if s.docs != "" && s.from == "" && (s.quick || s.only != "" || s.variants != "" || s.families != "") {
		fail(errors.New("-docs needs a whole run, without -quick, -only, -variants and -families"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	fail(run(ctx, s, os.Stdout))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures, or reads the results of an earlier run, and reports.
func run(ctx context.Context, s settings, w io.Writer) error {
	var result *Result
	var err error
	if s.from != "" {
		result, err = readResult(s.from)
	} else if result, err = measure(ctx, s); err == nil {
		err = result.write(s.json)
	}
	if err != nil {
		return err
	}
	if err := printResult(w, result); err != nil {
		return err
	}
	if s.docs != "" {
		return writeDocs(s.docs, result)
	}
	return nil
}

// progress prints to standard error what is being measured.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// list splits the comma-separated names of a flag.
func list(names string) []string {
	return strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
}
