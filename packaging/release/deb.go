package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
)

// makeDebs makes a Debian package for each architecture.
func (r release) makeDebs(architectures []string) error {
	share, err := r.makeShare()
	if err != nil {
		return fmt.Errorf("making manual pages and completions: %w", err)
	}
	for _, architecture := range architectures {
		if err := r.makeDeb(architecture, share); err != nil {
			return fmt.Errorf("for %s: %w", architecture, err)
		}
	}
	return os.RemoveAll(share)
}

// makeDeb makes a Debian package, as packaging/deb/nfpm.yaml says.
func (r release) makeDeb(architecture, share string) error {
	values := map[string]string{
		"ARCH": architecture, "VERSION": r.version,
		"CADDY": r.binary(architecture), "SHARE": share,
	}
	config, err := nfpm.ParseFileWithEnvMapping("packaging/deb/nfpm.yaml", func(name string) string { return values[name] })
	if err != nil {
		return err
	}
	info, err := config.Get("deb")
	if err != nil {
		return err
	}
	info.MTime = r.date
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get("deb")
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.dist, fmt.Sprintf("caddy-vnic_%s_%s.deb", r.version, architecture)))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := packager.Package(info, f); err != nil {
		return err
	}
	return f.Close()
}
