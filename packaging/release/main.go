// Command release packs what `make release` has built: a deb and an archive for each
// architecture, and an image for all of them. It is a module of its own, so that the plugin
// does not depend on the packers.
//
//	go run -C packaging/release . -version v0.1.0 amd64 arm64
//
// It takes Caddy from <dist>/<architecture>/caddy, and leaves the packages in <dist>.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// release describes what the packages say of themselves, and where they go.
type release struct {
	version string    // without the v of the tag
	date    time.Time // of each file in the packages, so that the same commit makes the same bytes
	dist    string
}

func main() {
	version := flag.String("version", "", "the tag, such as v0.1.0")
	dist := flag.String("dist", "dist", "the directory with what was built, from the repository's root")
	only := flag.String("only", "deb,archive,image", "what to make")
	flag.Parse()
	if *version == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: go run -C packaging/release . -version v0.1.0 <architecture>...")
		os.Exit(2)
	}
	if err := run(*version, *dist, strings.Split(*only, ","), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(version, dist string, only, architectures []string) error {
	if err := os.Chdir("../.."); err != nil {
		return err
	}
	date, err := commitDate()
	if err != nil {
		return err
	}
	r := release{strings.TrimPrefix(version, "v"), date, dist}
	for _, kind := range only {
		var err error
		switch kind {
		case "deb":
			err = r.makeDebs(architectures)
		case "archive":
			err = r.makeArchives(architectures)
		case "image":
			err = r.makeImage(architectures)
		default:
			err = errors.New("unknown: the kinds are deb, archive and image")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// binary returns the path of Caddy for an architecture.
func (r release) binary(architecture string) string {
	return filepath.Join(r.dist, architecture, "caddy")
}

// commitDate returns when the commit was made, or now, outside of a repository.
func commitDate() (time.Time, error) {
	text, err := exec.Command("git", "log", "-1", "--format=%cI").Output()
	if err != nil {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	return time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
}
